#pragma once
// Small matrix products in registers, for the kernels that are made of them. Sources that include this are compiled
// with fused multiply-add (-ffp-contract=fast, CMakeLists.txt), unlike the other kernels: where the machine has none,
// the last bits differ, as they do between the products of libraries.
#include <algorithm>
#include <string_view>

#include "kernels/kernels.h"
#include "kernels/scalar.h"

// Defines name(args) as one of body<rows, vectors>(args), the tile that suits the instruction set of the row kernels:
// FG_TILED(void, name, body, (const Args& a), (a))
#if defined(__x86_64__) && !defined(__clang__)  // Clang passes no vectors between targets, inlined or not
#define FG_TILED(result, name, body, parameters, arguments)                                                \
  __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))) result name##_avx512 parameters { \
    return body<8, 2> arguments;                                                                           \
  }                                                                                                        \
  __attribute__((target("avx2,fma"))) result name##_avx2 parameters { return body<4, 1> arguments; }       \
  result name##_portable parameters { return body<4, 1> arguments; }                                       \
  result name parameters {                                                                                 \
    static const auto chosen = fg::tile_level() == 2   ? name##_avx512                                     \
                               : fg::tile_level() == 1 ? name##_avx2                                       \
                                                       : name##_portable;                                  \
    return chosen arguments;                                                                               \
  }
#else
#define FG_TILED(result, name, body, parameters, arguments) \
  result name parameters { return body<4, 1> arguments; }
#endif

namespace fg {

inline int tile_level() {
  const std::string_view simd = kernels::simd();
  return simd == "avx512" ? 2 : simd == "avx2" ? 1 : 0;
}

constexpr int64_t kLane = 16;

FG_INLINE int64_t round_lanes(int64_t n) { return (n + kLane - 1) / kLane * kLane; }

/// C (rows x columns) = A B or, when `add`, C + A B; B is (inner x columns).
struct TileProduct {
  int64_t rows, columns, inner;  // columns: a multiple of 16
  const float* a;                // element (r, i) at a[r * a_row + i * a_inner]
  int64_t a_row, a_inner;
  const float* b;  // rows of b_row floats
  int64_t b_row;
  float* c;  // rows of c_row floats
  int64_t c_row;
  bool add;
};

template <int kRows, int kVectors>
FG_INLINE void product_tile(const TileProduct& p, int64_t row, int64_t column) {
  f32x16 sum[kRows][kVectors] = {};
  const float *a = p.a + row * p.a_row, *b = p.b + column;
  for (int64_t i = 0; i < p.inner; ++i, a += p.a_inner, b += p.b_row) {
    f32x16 y[kVectors];
    for (int v = 0; v < kVectors; ++v) y[v] = load_vector<f32x16>(b + v * kLane);
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r * p.a_row] * y[v];
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) {
      float* c = p.c + (row + r) * p.c_row + column + v * kLane;
      if (p.add) sum[r][v] += load_vector<f32x16>(c);
      __builtin_memcpy(c, &sum[r][v], sizeof(f32x16));
    }
}

template <int kRows, int kVectors>
FG_INLINE void product_columns(const TileProduct& p, int64_t column) {
  int64_t r = 0;
  for (; r + kRows <= p.rows; r += kRows) product_tile<kRows, kVectors>(p, r, column);
  if constexpr (kRows > 4)
    for (; r + 4 <= p.rows; r += 4) product_tile<4, kVectors>(p, r, column);
  for (; r < p.rows; ++r) product_tile<1, kVectors>(p, r, column);
}

template <int kRows, int kVectors>
FG_INLINE void tile_product(const TileProduct& p) {
  int64_t column = 0;
  for (; column + kVectors * kLane <= p.columns; column += kVectors * kLane)
    product_columns<kRows, kVectors>(p, column);
  if constexpr (kVectors > 1)
    for (; column < p.columns; column += kLane) product_columns<kRows, 1>(p, column);
}

}  // namespace fg
