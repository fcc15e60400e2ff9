// linear_plain for bfloat16 with the instruction that multiplies pairs (AVX512_BF16): twice the products of an
// instruction, and no widening. Products are exact and sums are float32, as in the other kernels; the instruction
// treats denormals as 0.
#include "kernels/cpu/linear_bf16.h"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own _mm512_undefined_*
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/tile_product.h"

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")

namespace fg {
namespace {

constexpr int64_t kPairs = 32;  // numbers in a vector

FG_INLINE __m512 product(__m512 sum, __m512i x, __m512i w) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }

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

FG_INLINE __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
FG_INLINE __m256i narrow(__m512 v) {  // to nearest, ties to even, as store()
  const __m512i i = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(i, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(i, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc0)));
}

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

/// kRows rows by kOutputs outputs, in registers.
template <int kRows, int kOutputs>
FG_INLINE void dots(const LinearPlainArgs& a, int64_t row, int64_t column, float (*to)[8]) {
  const bf16* w = static_cast<const bf16*>(a.weight) + column * a.in;
  const bf16* x = static_cast<const bf16*>(a.x) + row * a.in;
  __m512 sum[kOutputs][kRows];
  for (auto& of : sum)
    for (auto& s : of) s = _mm512_setzero_ps();
  // The weight comes from memory, where the hardware's prefetch alone reaches half of the speed: a tile, or some 8 KB,
  // ahead.
  const int64_t ahead = (a.in < 1024 ? 2 : 1) * kOutputs * a.in;
  int64_t i = 0;
  for (; i + kPairs <= a.in; i += kPairs) {
    __m512i y[kOutputs];
    for (int o = 0; o < kOutputs; ++o) {
      y[o] = _mm512_loadu_si512(w + o * a.in + i);
      if (row == 0) __builtin_prefetch(w + ahead + o * a.in + i);
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
  for (int o = 0; o < kOutputs; ++o) {
    __m512 all[8];
    for (int r = 0; r < 8; ++r) all[r] = sum[o][r < kRows ? r : 0];
    _mm256_store_ps(to[o], lane_sums(all));
  }
}

/// Rows [row, row + kRows): they stay in the first cache while the task's part of the weight passes by.
template <int kRows>
void some_rows(const LinearPlainArgs& a, int64_t row, int64_t begin, int64_t end) {
  constexpr int kOutputs = 3;  // 24 of 32 vector registers hold sums
  Sums sums;
  for (int64_t block = begin; block < end; block += Sums::kOutputs) {
    const int64_t count = std::min(Sums::kOutputs, end - block);
    int64_t o = 0;
    for (; o + kOutputs <= count; o += kOutputs) dots<kRows, kOutputs>(a, row, block + o, sums.at + o);
    for (; o < count; ++o) dots<kRows, 1>(a, row, block + o, sums.at + o);
    finish(a, row, kRows, block, count, sums);
  }
}

}  // namespace

bool multiplies_bf16_pairs() {
  __builtin_cpu_init();
  static const bool machine = __builtin_cpu_supports("avx512bf16");
  return machine && tile_level() == 2;
}

void linear_bf16_pairs(const LinearPlainArgs& a, int64_t begin, int64_t end) {
  int64_t r = 0;
  for (; r + 8 <= a.rows; r += 8) some_rows<8>(a, r, begin, end);
  for (; r + 4 <= a.rows; r += 4) some_rows<4>(a, r, begin, end);
  for (; r < a.rows; ++r) some_rows<1>(a, r, begin, end);
}

}  // namespace fg

#else

namespace fg {
bool multiplies_bf16_pairs() { return false; }
void linear_bf16_pairs(const LinearPlainArgs&, int64_t, int64_t) {}
}  // namespace fg

#endif
