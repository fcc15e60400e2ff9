#pragma once
// Vectors of sixteen bfloat16 numbers with AVX-512, for sources that are compiled for it from here on: include this
// last.
#if defined(__x86_64__) && !defined(__clang__)
#define FG_BF16_AVX512 1
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own _mm512_undefined_*
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "kernels/scalar.h"

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

namespace fg {

FG_INLINE __m512 widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
FG_INLINE __m256i narrow(__m512 v) {  // to nearest, ties to even, as store()
  const __m512i i = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(i, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(i, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc0)));
}

// Of a vector of pairs: a bfloat16 number is the upper half of a float32.
FG_INLINE __m512i even(__m512i v) { return _mm512_slli_epi32(v, 16); }
FG_INLINE __m512i odd(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi32(-65536)); }

}  // namespace fg
#endif
