// linear_plain for bfloat16 with AVX-512. Products are exact and sums are float32, as in the other kernels. Two ways:
// by pairs, with the instruction of AVX512_BF16 (twice the products of an instruction, no widening; denormals are 0),
// or by halves, as float32, where that instruction is no faster than two of float32: on Intel's processors it takes
// four times as long.
#include "kernels/cpu/linear_bf16.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/tile_product.h"
//
#include "kernels/cpu/bf16_avx512.h"

#if defined(FG_BF16_AVX512)
#pragma GCC target("avx512bf16")

namespace fg {
namespace {

constexpr int64_t kPairs = 32;  // numbers in a vector

/// The sums of the lanes of eight vectors, the same tree for each.
FG_INLINE __m256 lane_sums(const __m512 (&v)[8]) {
  __m512 pair[4];
  for (int r = 0; r < 4; ++r)  // in each 128 bits: a0+a2, b0+b2, a1+a3, b1+b3
    pair[r] = _mm512_add_ps(_mm512_unpacklo_ps(v[2 * r], v[2 * r + 1]), _mm512_unpackhi_ps(v[2 * r], v[2 * r + 1]));
  __m512 four[2];
  for (int r = 0; r < 2; ++r) {
    const __m512d a = _mm512_castps_pd(pair[2 * r]), b = _mm512_castps_pd(pair[2 * r + 1]);
    four[r] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  // Each 128 bits of four[k] hold a part of the sums of vectors 4k .. 4k+3.
  const __m512 low = _mm512_shuffle_f32x4(four[0], four[1], 0x44), high = _mm512_shuffle_f32x4(four[0], four[1], 0xee);
  const __m512 half = _mm512_add_ps(low, high);  // two parts of vectors 0-3, two of 4-7
  const __m512 even = _mm512_shuffle_f32x4(half, half, 0x08), odd = _mm512_shuffle_f32x4(half, half, 0x0d);
  return _mm512_castps512_ps256(_mm512_add_ps(even, odd));
}

/// The sums of some outputs of eight rows: they wait here, so that a row's are rounded and written together.
struct Sums {
  static constexpr int64_t kOutputs = 48;
  alignas(64) float at[kOutputs][8];
};

/// Writes `count` outputs from `column` of rows [row, row + rows).
void finish(const LinearPlainArgs& a, int64_t row, int64_t rows, int64_t column, int64_t count, const Sums& sums) {
  const bf16 *bias = static_cast<const bf16*>(a.bias), *residual = static_cast<const bf16*>(a.residual);
  const __m512i across =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(8));
  for (int64_t o = 0; o < count; o += 16) {
    const __mmask16 lanes = (1u << std::min<int64_t>(16, count - o)) - 1;
    const auto added = [&](const bf16* p) { return widen(_mm256_maskz_loadu_epi16(lanes, p)); };
    for (int64_t r = 0; r < rows; ++r) {
      __m512 v = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, across, sums.at[o] + r, sizeof(float));
      const int64_t to = (row + r) * a.out + column + o;
      if (bias) v = widen(narrow(_mm512_add_ps(v, added(bias + column + o))));
      if (residual) v = _mm512_add_ps(v, added(residual + to));
      _mm256_mask_storeu_epi16(static_cast<bf16*>(a.y) + to, lanes, narrow(v));
    }
  }
}

/// Products of pairs; the rows as they are.
struct Pairs {
  using X = bf16;
  static constexpr int64_t kColumns = INT64_MAX;  // all at once
  static constexpr int64_t kTilesAhead = 2;

  static const X* rows(const LinearPlainArgs& a, int64_t row) { return static_cast<const bf16*>(a.x) + row * a.in; }

  static FG_INLINE __m512 product(__m512 sum, __m512i x, __m512i w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
  }

  template <int kRows, int kOutputs>
  static FG_INLINE void add(const LinearPlainArgs& a, const X* x, const bf16* w, int64_t, int64_t, int64_t ahead,
                            __m512 (&sum)[kOutputs][kRows]) {
    int64_t i = 0;
    for (; i + kPairs <= a.in; i += kPairs) {
      __m512i y[kOutputs];
      for (int o = 0; o < kOutputs; ++o) {
        y[o] = _mm512_loadu_si512(w + o * a.in + i);
        if (ahead) __builtin_prefetch(w + ahead + o * a.in + i);
      }
      for (int r = 0; r < kRows; ++r) {
        __m512i z = _mm512_loadu_si512(x + r * a.in + i);
        asm("" : "+v"(z));  // in a register: as a memory operand of each product, loads would be the limit
        for (int o = 0; o < kOutputs; ++o) sum[o][r] = product(sum[o][r], z, y[o]);
      }
    }
    if (const __mmask32 rest = (uint64_t{1} << (a.in - i)) - 1)
      for (int r = 0; r < kRows; ++r) {
        const __m512i z = _mm512_maskz_loadu_epi16(rest, x + r * a.in + i);
        for (int o = 0; o < kOutputs; ++o)
          sum[o][r] = product(sum[o][r], z, _mm512_maskz_loadu_epi16(rest, w + o * a.in + i));
      }
  }
};

/// Products of float32, the even columns of 32, then the odd ones: a bfloat16 number is the upper half of a float32.
struct Halves {
  using X = float;
  static constexpr int64_t kColumns = 768;  // of eight rows: 24 KB, which stay in the first cache
  static constexpr int64_t kTilesAhead = 4;

  /// The rows as they were laid out: of each 32 columns, for each half, 16 numbers of each row of the group.
  static const X* rows(const LinearPlainArgs& a, int64_t row) { return a.scratch + row * plain_scratch_floats(a.in); }

  static void lay_out(const LinearPlainArgs& a, int64_t row, int64_t rows) {
    const bf16* x = static_cast<const bf16*>(a.x) + row * a.in;
    float* to = a.scratch + row * plain_scratch_floats(a.in);
    for (int64_t i = 0; i < a.in; i += kPairs, to += 2 * 16 * rows) {
      const __mmask32 lanes = a.in - i < kPairs ? (uint64_t{1} << (a.in - i)) - 1 : ~__mmask32{0};
      for (int64_t r = 0; r < rows; ++r) {
        const __m512i v = _mm512_maskz_loadu_epi16(lanes, x + r * a.in + i);
        _mm512_storeu_si512(to + 16 * r, even(v));
        _mm512_storeu_si512(to + 16 * (rows + r), odd(v));
      }
    }
  }

  template <int kRows, int kOutputs>
  static FG_INLINE void add(const LinearPlainArgs& a, const X* x, const bf16* w, int64_t begin, int64_t end,
                            int64_t ahead, __m512 (&sum)[kOutputs][kRows]) {
    x += begin * kRows;
    for (int64_t i = begin; i < end; i += kPairs, x += 2 * 16 * kRows) {
      __m512i y[kOutputs];
      if (end - i < kPairs) {
        const __mmask32 rest = (uint64_t{1} << (end - i)) - 1;
#pragma GCC unroll 3
        for (int o = 0; o < kOutputs; ++o) y[o] = _mm512_maskz_loadu_epi16(rest, w + o * a.in + i);
      } else {
#pragma GCC unroll 3
        for (int o = 0; o < kOutputs; ++o) y[o] = _mm512_loadu_si512(w + o * a.in + i);
      }
      if (ahead)
#pragma GCC unroll 3
        for (int o = 0; o < kOutputs; ++o)
          __builtin_prefetch(w + ahead + o * a.in + i, 0, 2);  // into the second cache: rows are in the first
      products<kRows, kOutputs, 0>(x, y, sum);
      products<kRows, kOutputs, 1>(x + 16 * kRows, y, sum);
    }
  }

  template <int kRows, int kOutputs, int kOdd>
  static FG_INLINE void products(const X* x, const __m512i (&y)[kOutputs], __m512 (&sum)[kOutputs][kRows]) {
    __m512 half[kOutputs];
#pragma GCC unroll 3
    for (int o = 0; o < kOutputs; ++o) half[o] = _mm512_castsi512_ps(kOdd ? odd(y[o]) : even(y[o]));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      __m512 z = _mm512_loadu_ps(x + 16 * r);
      asm("" : "+v"(z));  // as above
#pragma GCC unroll 3
      for (int o = 0; o < kOutputs; ++o) sum[o][r] = _mm512_fmadd_ps(z, half[o], sum[o][r]);
    }
  }
};

/// kRows rows by kOutputs outputs, in registers, over the columns [begin, end): set, or added to, `to`.
template <class Way, int kRows, int kOutputs>
FG_INLINE void dots(const LinearPlainArgs& a, const typename Way::X* x, const bf16* w, int64_t begin, int64_t end,
                    int64_t ahead, float (*to)[8]) {
  __m512 sum[kOutputs][kRows];
  for (auto& of : sum)
    for (auto& s : of) s = _mm512_setzero_ps();
  Way::template add<kRows, kOutputs>(a, x, w, begin, end, ahead, sum);
  for (int o = 0; o < kOutputs; ++o) {
    __m512 all[8];
    for (int r = 0; r < 8; ++r) all[r] = sum[o][r < kRows ? r : 0];
    const __m256 sums = lane_sums(all);
    _mm256_store_ps(to[o], begin == 0 ? sums : _mm256_add_ps(_mm256_load_ps(to[o]), sums));
  }
}

/// Rows [row, row + kRows): they stay in the first cache while the task's part of the weight passes by.
template <class Way, int kRows>
void some_rows(const LinearPlainArgs& a, int64_t row, int64_t begin, int64_t end) {
  constexpr int kOutputs = 3;  // 24 of 32 vector registers hold sums
  const auto* x = Way::rows(a, row);
  const bf16* w = static_cast<const bf16*>(a.weight);
  // The weight comes from memory, where the hardware's prefetch alone reaches half of the speed.
  const int64_t ahead = row > 0 ? 0 : Way::kTilesAhead * kOutputs * a.in / (a.in < 1024 ? 1 : 2);
  Sums sums;
  for (int64_t block = begin; block < end; block += Sums::kOutputs) {
    const int64_t count = std::min(Sums::kOutputs, end - block);
    for (int64_t from = 0; from < a.in || from == 0; from += std::min(Way::kColumns, a.in)) {
      const int64_t to = a.in - from < Way::kColumns ? a.in : from + Way::kColumns;
      int64_t o = 0;
      for (; o + kOutputs <= count; o += kOutputs)
        dots<Way, kRows, kOutputs>(a, x, w + (block + o) * a.in, from, to, ahead, sums.at + o);
      for (; o < count; ++o) dots<Way, kRows, 1>(a, x, w + (block + o) * a.in, from, to, ahead, sums.at + o);
    }
    finish(a, row, kRows, block, count, sums);
  }
}

/// fn(row, rows) for the groups of rows that are multiplied together.
template <class Fn>
void each_group(int64_t rows, Fn fn) {
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8) fn(r, std::integral_constant<int, 8>());
  for (; r + 4 <= rows; r += 4) fn(r, std::integral_constant<int, 4>());
  for (; r < rows; ++r) fn(r, std::integral_constant<int, 1>());
}

template <class Way>
void outputs(const LinearPlainArgs& a, int64_t begin, int64_t end) {
  each_group(a.rows, [&](int64_t row, auto rows) { some_rows<Way, rows()>(a, row, begin, end); });
}

}  // namespace

bool can_multiply(Bf16Way way) {
  __builtin_cpu_init();
  return way == Bf16Way::none ||
         (tile_level() == 2 && (way == Bf16Way::halves || __builtin_cpu_supports("avx512bf16")));
}

Bf16Way bf16_way() {
  static const Bf16Way way = can_multiply(Bf16Way::pairs) && __builtin_cpu_is("amd") ? Bf16Way::pairs
                             : can_multiply(Bf16Way::halves)                         ? Bf16Way::halves
                                                                                     : Bf16Way::none;
  return way;
}

void linear_bf16(const Context& context, const LinearPlainArgs& a, int64_t outputs_per_task, Bf16Way way) {
  constexpr int64_t kRowsPerTask = 64;  // whole groups: each is laid out as it is read
  if (way == Bf16Way::halves)
    parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      each_group(end - begin, [&](int64_t row, auto rows) { Halves::lay_out(a, begin + row, rows()); });
    });
  parallel_for(context, a.out, outputs_per_task, [&](int64_t begin, int64_t end) {
    way == Bf16Way::pairs ? outputs<Pairs>(a, begin, end) : outputs<Halves>(a, begin, end);
  });
}

}  // namespace fg

#else

namespace fg {
bool can_multiply(Bf16Way way) { return way == Bf16Way::none; }
Bf16Way bf16_way() { return Bf16Way::none; }
void linear_bf16(const Context&, const LinearPlainArgs&, int64_t, Bf16Way) {}
}  // namespace fg

#endif
