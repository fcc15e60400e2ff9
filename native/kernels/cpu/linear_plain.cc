// Products with a weight as it lies in memory: dot products of its rows. What counts is that the weight is read once,
// at the speed of memory.
#include <type_traits>

#include "kernels/cpu/linear_bf16.h"
#include "kernels/cpu/tile_product.h"
#include "kernels/linear.h"

namespace fg {
namespace {

constexpr int64_t kOutputsPerTask = 48;

#if defined(__clang__)
FG_INLINE f32x16 every_second(const f32x16& a, const f32x16& b, int first) {
  f32x16 out = a;
  for (int j = 0; j < 8; ++j) out[j] = a[2 * j + first], out[j + 8] = b[2 * j + first];
  return out;
}
FG_INLINE f32x16 evens(const f32x16& a, const f32x16& b) { return every_second(a, b, 0); }
FG_INLINE f32x16 odds(const f32x16& a, const f32x16& b) { return every_second(a, b, 1); }
#else
FG_INLINE f32x16 evens(const f32x16& a, const f32x16& b) {
  const i32x16 order = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
  return __builtin_shuffle(a, b, order);
}
FG_INLINE f32x16 odds(const f32x16& a, const f32x16& b) {
  const i32x16 order = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  return __builtin_shuffle(a, b, order);
}
#endif
FG_INLINE f32x16 fold(const f32x16& a, const f32x16& b) { return evens(a, b) + odds(a, b); }

/// The sum of the lanes of each of kRows vectors, the same tree for every row.
template <int kRows>
FG_INLINE void lane_sums(const f32x16 (&v)[kRows], float* to) {
  static_assert(kRows == 8 || kRows == 4 || kRows == 1);
  const auto at = [&](int r) { return v[r < kRows ? r : 0]; };
  const f32x16 a = fold(fold(at(0), at(1)), fold(at(2), at(3))), b = fold(fold(at(4), at(5)), fold(at(6), at(7)));
  const f32x16 sums = fold(fold(a, b), f32x16{});
  float lanes[kLane];
  __builtin_memcpy(lanes, &sums, sizeof lanes);
  for (int r = 0; r < kRows; ++r) to[r] = lanes[r];
}

template <class T>
FG_INLINE void finish(const LinearPlainArgs& a, int64_t row, int64_t column, float value) {
  if (a.bias) value = rounded<T>(value + load(static_cast<const T*>(a.bias) + column));
  if (a.residual) value += load(static_cast<const T*>(a.residual) + row * a.out + column);
  store(static_cast<T*>(a.y) + row * a.out + column, value);
}

/// Keeps a value that several products use in a register: GCC would make it a memory operand of each of them, and loads
/// would be what limits a tile (a fifth slower).
template <int kRows>
FG_INLINE void keep_in_register(f32x16& v) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (kRows == 8) asm("" : "+v"(v));  // only with AVX-512 is a vector one register
#endif
}

/// kRows rows by kOutputs outputs.
template <class T, int kRows, int kOutputs>
FG_INLINE void dots(const LinearPlainArgs& a, const float* x, const T* w, int64_t row, int64_t column) {
  f32x16 sum[kOutputs][kRows] = {};
  int64_t i = 0;
  for (; i + kLane <= a.in; i += kLane) {
    f32x16 y[kOutputs];
    for (int o = 0; o < kOutputs; ++o) {
      y[o] = load_vector<f32x16>(w + o * a.in + i);
      // The next tile's, from memory: the hardware's prefetch alone reached half of the memory's speed.
      if (row == 0) __builtin_prefetch(w + (kOutputs + o) * a.in + i);
    }
    for (int r = 0; r < kRows; ++r) {
      f32x16 z = load_vector<f32x16>(x + r * a.in + i);
      keep_in_register<kRows>(z);
      for (int o = 0; o < kOutputs; ++o) sum[o][r] += z * y[o];
    }
  }
  for (int o = 0; o < kOutputs; ++o) {
    float total[kRows];
    lane_sums<kRows>(sum[o], total);
    for (int64_t rest = i; rest < a.in; ++rest)
      for (int r = 0; r < kRows; ++r) total[r] += x[r * a.in + rest] * load(w + o * a.in + rest);
    for (int r = 0; r < kRows; ++r) finish<T>(a, row + r, column + o, total[r]);
  }
}

/// Rows [row, row + kRows): they stay in the first cache while the task's part of the weight passes by.
template <class T, int kRows, int kOutputs>
FG_INLINE void some_rows(const LinearPlainArgs& a, const float* x, int64_t row, int64_t begin, int64_t end) {
  const T* w = static_cast<const T*>(a.weight);
  int64_t o = begin;
  for (; o + kOutputs <= end; o += kOutputs) dots<T, kRows, kOutputs>(a, x + row * a.in, w + o * a.in, row, o);
  for (; o < end; ++o) dots<T, kRows, 1>(a, x + row * a.in, w + o * a.in, row, o);
}

template <class T, int kRows, int kOutputs>
FG_INLINE void outputs(const LinearPlainArgs& a, int64_t begin, int64_t end) {
  const float* x = std::is_same_v<T, float> ? static_cast<const float*>(a.x) : a.scratch;
  int64_t r = 0;
  for (; r + kRows <= a.rows; r += kRows) some_rows<T, kRows, kOutputs>(a, x, r, begin, end);
  if constexpr (kRows > 4)
    for (; r + 4 <= a.rows; r += 4) some_rows<T, 4, kOutputs>(a, x, r, begin, end);
  for (; r < a.rows; ++r) some_rows<T, 1, kOutputs>(a, x, r, begin, end);
}

template <int kRows, int kVectors>
FG_INLINE void outputs_any(const LinearPlainArgs& a, int64_t begin, int64_t end) {
  constexpr int kOutputs = kRows == 8 ? 3 : 1;  // 24 of 32 vector registers hold sums; 8 of 16 with AVX2
  a.dtype == DType::f32 ? outputs<float, kRows, kOutputs>(a, begin, end)
                        : outputs<bf16, kRows, kOutputs>(a, begin, end);
}

FG_TILED(void, output_range, outputs_any, (const LinearPlainArgs& a, int64_t begin, int64_t end), (a, begin, end))

}  // namespace

void linear_plain(const Context& context, const LinearPlainArgs& a) {
  if (a.dtype == DType::bf16 && bf16_way() != Bf16Way::none)
    return linear_bf16(context, a, kOutputsPerTask, bf16_way());
  if (a.dtype != DType::f32)
    parallel_for(context, a.rows * a.in, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) a.scratch[i] = load(static_cast<const bf16*>(a.x) + i);
    });
  parallel_for(context, a.out, kOutputsPerTask, [&](int64_t begin, int64_t end) { output_range(a, begin, end); });
}

}  // namespace fg
