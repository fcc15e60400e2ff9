// Products of small models: with a packed weight, and the gradients.
#include "kernels/linear.h"

#include <type_traits>

#include "kernels/cpu/tile_product.h"

namespace fg {
namespace {

constexpr int64_t kRowsPerTask = 64;
constexpr int64_t kOutputsPerTask = 32;
constexpr int64_t kRowsAtOnce = 128;  // of a weight's gradient: what a panel of both factors needs fits the first cache

template <class T>
void pack_typed(const PackArgs& a) {
  const T* weight = static_cast<const T*>(a.weight);
  float* to = a.packed;
  for (int64_t panel = 0; panel < a.out; panel += kPanel)
    for (int64_t i = 0; i < a.in; ++i, to += kPanel)
      for (int64_t o = 0; o < kPanel; ++o)
        to[o] = panel + o < a.out ? load(weight + (panel + o) * a.out_stride + i * a.in_stride) : 0.0f;
}

/// Writes n (at most 16) outputs of one row: the bias is part of the product and rounded with it.
template <class T>
FG_INLINE void finish(const LinearArgs& a, int64_t row, int64_t column, int64_t n, const f32x16& sum) {
  float value[kLane];
  __builtin_memcpy(value, &sum, sizeof value);
  const T* bias = a.bias ? static_cast<const T*>(a.bias) + column : nullptr;
  const T* residual = a.residual ? static_cast<const T*>(a.residual) + row * a.out + column : nullptr;
  T* y = static_cast<T*>(a.y) + row * a.out + column;
  if (bias)
    for (int64_t j = 0; j < n; ++j) value[j] = rounded<T>(value[j] + load(bias + j));
  if (residual)
    for (int64_t j = 0; j < n; ++j) value[j] += load(residual + j);
  for (int64_t j = 0; j < n; ++j) store(y + j, value[j]);
}

/// kRows rows by kVectors x 16 outputs, in registers.
template <class T, int kRows, int kVectors>
FG_INLINE void tile(const LinearArgs& a, const float* x, const float* w, int64_t row, int64_t column) {
  f32x16 sum[kRows][kVectors] = {};
  for (int64_t i = 0; i < a.in; ++i) {
    f32x16 b[kVectors];
    for (int v = 0; v < kVectors; ++v) b[v] = load_vector<f32x16>(w + i * kPanel + v * kLane);
    for (int r = 0; r < kRows; ++r) {
      const float z = x[r * a.in + i];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += z * b[v];
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = column + v * kLane;
      if (at + kLane <= a.out)
        finish<T>(a, row + r, at, kLane, sum[r][v]);
      else if (at < a.out)
        finish<T>(a, row + r, at, a.out - at, sum[r][v]);
    }
}

template <class T, int kRows, int kVectors>
FG_INLINE int64_t tiles(const LinearArgs& a, const float* x, const float* w, int64_t row, int64_t column) {
  for (; row + kRows <= a.rows; row += kRows) tile<T, kRows, kVectors>(a, x + row * a.in, w, row, column);
  return row;
}

template <class T, int kRows, int kVectors>
FG_INLINE void product_typed(const LinearArgs& a) {
  const float* x = static_cast<const float*>(a.x);
  if constexpr (!std::is_same_v<T, float>) {
    for (int64_t i = 0; i < a.rows * a.in; ++i) a.scratch[i] = load(static_cast<const T*>(a.x) + i);
    x = a.scratch;
  }
  for (int64_t panel = 0; panel < a.out; panel += kPanel)
    for (int64_t v = 0; v < kPanel && panel + v < a.out; v += kVectors * kLane) {
      const float* w = a.packed + panel * a.in + v;
      int64_t row = tiles<T, kRows, kVectors>(a, x, w, 0, panel + v);
      if constexpr (kRows > 4) row = tiles<T, 4, kVectors>(a, x, w, row, panel + v);
      tiles<T, 1, kVectors>(a, x, w, row, panel + v);
    }
}

template <int kRows, int kVectors>
FG_INLINE void product_any(const LinearArgs& a) {
  a.dtype == DType::f32 ? product_typed<float, kRows, kVectors>(a) : product_typed<bf16, kRows, kVectors>(a);
}

FG_TILED(void, product, product_any, (const LinearArgs& a), (a))
FG_TILED(void, multiply, tile_product, (const TileProduct& p), (p))

}  // namespace

int64_t packed_floats(int64_t out, int64_t in) { return (out + kPanel - 1) / kPanel * kPanel * in; }

void pack_weight(const PackArgs& a) { a.dtype == DType::f32 ? pack_typed<float>(a) : pack_typed<bf16>(a); }

void linear_forward(const LinearArgs& a) { product(a); }

void linear_forward(const Context& context, const LinearArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    LinearArgs part = a;
    part.x = static_cast<const float*>(a.x) + begin * a.in;
    part.y = static_cast<float*>(a.y) + begin * a.out;
    if (a.residual) part.residual = static_cast<const float*>(a.residual) + begin * a.out;
    part.rows = end - begin;
    product(part);
  });
}

void linear_input_gradient(const Context& context, const LinearGradArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
    multiply(
        {end - begin, a.in, a.out, a.dy + begin * a.out, a.out, 1, a.weight, a.in, a.dx + begin * a.in, a.in, false});
  });
}

void linear_weight_gradient(const Context& context, const LinearGradArgs& a) {
  parallel_for(context, a.out, kOutputsPerTask, [&](int64_t begin, int64_t end) {
    float* to = a.dweight + begin * a.in;
    if (a.rows == 0) std::fill_n(to, (end - begin) * a.in, 0.0f);
    for (int64_t r = 0; r < a.rows; r += kRowsAtOnce)
      multiply({end - begin, a.in, std::min(kRowsAtOnce, a.rows - r), a.dy + r * a.out + begin, 1, a.out,
                a.x + r * a.in, a.in, to, a.in, r > 0});
  });
}

}  // namespace fg
