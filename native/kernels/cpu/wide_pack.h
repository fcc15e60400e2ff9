#pragma once
// The factors of a wide product, widened into the order in which its tiles read them. Include this last (see there).
#include <algorithm>

#include "kernels/cpu/tile_product.h"
//
#include "kernels/cpu/bf16_avx512.h"

#if defined(FG_BF16_AVX512)
namespace fg {

constexpr int kRows = 8, kVectors = 3;        // of a tile: 24 of 32 vector registers hold sums
constexpr int64_t kWidth = kVectors * kLane;  // columns of a tile

FG_INLINE __mmask16 lanes_of(int64_t n) { return n >= kLane ? 0xffff : n <= 0 ? 0 : (1u << n) - 1; }

/// Sixteen vectors of sixteen 32-bit numbers, rows to columns.
FG_INLINE void transpose(__m512i (&v)[16]) {
  __m512i t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  // u[4 q + j]: in its l-th 128 bits, column 4 l + j of rows 4 q to 4 q + 3.
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const int from = i / 2 * 4 + i % 2, to = i / 2 * 4 + i % 2 * 2;
    u[to] = _mm512_unpacklo_epi64(t[from], t[from + 2]);
    u[to + 1] = _mm512_unpackhi_epi64(t[from], t[from + 2]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(u[j], u[4 + j], 0x88), b = _mm512_shuffle_i32x4(u[j], u[4 + j], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0xdd);
    v[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

/// put(k, v): v holds number k of up to sixteen lines of `n` numbers, zeros behind them. Pairs of numbers are
/// transposed together: half the shuffles.
template <class Put>
FG_INLINE void across(const bf16* from, int64_t stride, int64_t lines, int64_t n, Put put) {
  for (int64_t k = 0; k < n; k += 32) {
    const __mmask32 numbers = n - k < 32 ? (uint64_t{1} << (n - k)) - 1 : ~__mmask32{0};
    __m512i v[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      v[i] = i < lines ? _mm512_maskz_loadu_epi16(numbers, from + i * stride + k) : _mm512_setzero_si512();
    transpose(v);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (k + 2 * i >= n) break;
      put(k + 2 * i, _mm512_castsi512_ps(even(v[i])));
      if (k + 2 * i + 1 < n) put(k + 2 * i + 1, _mm512_castsi512_ps(odd(v[i])));
    }
  }
}

/// `depth` numbers of up to kWidth columns of B to (depth, kWidth), zeros behind the last column.
inline void pack_columns(const bf16* from, int64_t inner_stride, int64_t column_stride, int64_t columns, int64_t depth,
                         float* to) {
  constexpr int64_t kTogether = 32;  // memory is written in about its order
  if (column_stride != 1) {
    for (int64_t k = 0; k < depth; k += kTogether, to += kTogether * kWidth)
      for (int64_t v = 0; v < kWidth; v += kLane)
        across(from + k * inner_stride + v * column_stride, column_stride, columns - v, std::min(kTogether, depth - k),
               [&](int64_t i, __m512 x) __attribute__((always_inline)) { _mm512_store_ps(to + i * kWidth + v, x); });
    return;
  }
  __mmask16 lanes[kVectors];
  for (int v = 0; v < kVectors; ++v) lanes[v] = lanes_of(columns - v * kLane);
  for (int64_t k = 0; k < depth; ++k, from += inner_stride, to += kWidth)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      _mm512_store_ps(to + v * kLane, widen(_mm256_maskz_loadu_epi16(lanes[v], from + v * kLane)));
}

/// Number k of sixteen rows of A, into two groups of eight, each (depth, kRows).
FG_INLINE void put_rows(float* to, int64_t depth, int64_t k, __m512 v) {
  _mm256_store_ps(to + k * kRows, _mm512_castps512_ps256(v));
  _mm256_store_ps(to + (depth + k) * kRows, _mm512_extractf32x8_ps(v, 1));
}

/// `depth` numbers of rows of A to an even number of groups of eight, zeros behind the last row.
inline void pack_rows(const bf16* from, int64_t row_stride, int64_t inner_stride, int64_t rows, int64_t depth,
                      float* to) {
  if (row_stride != 1) {
    for (int64_t r = 0; r < rows; r += kLane)
      across(from + r * row_stride, row_stride, rows - r, depth,
             [&](int64_t k, __m512 v) __attribute__((always_inline)) { put_rows(to + r * depth, depth, k, v); });
    return;
  }
  constexpr int64_t kTogether = 8;  // two vectors are a line of the cache: the second is read while it is there
  for (int64_t first = 0; first < depth; first += kTogether)
    for (int64_t r = 0; r < rows; r += kLane) {
      const __mmask16 lanes = lanes_of(rows - r);
      for (int64_t k = first; k < std::min(depth, first + kTogether); ++k)
        put_rows(to + r * depth, depth, k, widen(_mm256_maskz_loadu_epi16(lanes, from + k * inner_stride + r)));
    }
}

}  // namespace fg
#endif
