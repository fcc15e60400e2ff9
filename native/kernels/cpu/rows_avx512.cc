// AVX-512 (F, BW, DQ, VL): 16 columns at a time.
#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own _mm512_undefined_*
#pragma GCC diagnostic ignored "-Wuninitialized"        // the same, where less is inlined
#include <immintrin.h>

#include <type_traits>

#include "kernels/cpu/rows_common.h"

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")

namespace fg::kernels {
namespace {

#include "kernels/cpu/flush_denormals.inl"

struct Vec {
  static constexpr int64_t kWidth = 16;
  static constexpr bool kPrefetch = true, kPairs = true, kClamp = false, kMasks = true;
  static constexpr float kFloor = -200;
  using F = __m512;
  static F set(float v) { return _mm512_set1_ps(v); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }  // NaN in b is kept
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static float hmax(F a) { return _mm512_reduce_max_ps(a); }
  static float hsum(F a) { return _mm512_reduce_add_ps(a); }

  // x - floor(x) in one instruction (0 for -inf), and 2^floor(x) is what scalef multiplies by.
  static constexpr const float* kPower = kExp2Floor;
  static void split(F y, F scale, F& n, F& r) {
    n = mul(y, scale);
    r = _mm512_reduce_ps(n, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  }
  static F raise(F p, F n) { return _mm512_scalef_ps(p, n); }

  static constexpr int64_t kIntegers = 32;
  static __m512i integers(int v) { return _mm512_set1_epi16(short(v)); }
  static __m512i load_integers(const uint16_t* p) { return _mm512_loadu_si512(p); }
  static __m512i max_signed(__m512i a, __m512i b) { return _mm512_max_epi16(a, b); }
  static __m512i min_unsigned(__m512i a, __m512i b) { return _mm512_min_epu16(a, b); }
  static int hmin_unsigned(__m512i a) {
    const __m256i h = _mm256_min_epu16(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    const __m128i m = _mm_min_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    return _mm_cvtsi128_si32(_mm_minpos_epu16(m)) & 0xFFFF;
  }
  static int hmax_signed(__m512i a) {  // 0x7FFF less the number reverses the order, from 0 on
    return 0x7FFF - hmin_unsigned(_mm512_sub_epi16(integers(0x7FFF), a));
  }

  static F widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  static __m256i narrow_bf16(F v) {  // to nearest, ties to even; gradients are finite, so NaN needs no care
    const __m512i i = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(i, 16), _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_add_epi32(i, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16));
  }
  // Two vectors of bfloat16: the even columns in one, the odd ones in the other. An instruction each to widen them, and
  // no packing afterwards.
  template <DType D, class E>
  static void load_pair(const E* p, F& a, F& b) {
    if constexpr (D == DType::bf16) {
      const __m512i v = _mm512_loadu_si512(p);
      a = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
      b = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(int(0xFFFF0000))));
    } else {
      a = load<D>(p), b = load<D>(p + kWidth);
    }
  }
  /// The upper halves are v to nearest, ties to even.
  static __m512i rounded_bf16(F v) {
    const __m512i i = _mm512_castps_si512(v), half = _mm512_add_epi32(i, _mm512_set1_epi32(0x7FFF));
    return _mm512_mask_add_epi32(half, _mm512_test_epi32_mask(i, _mm512_set1_epi32(0x10000)), half,
                                 _mm512_set1_epi32(1));
  }
  template <DType D, class E>
  static void store_pair(E* p, F a, F b) {
    if constexpr (D == DType::bf16)
      _mm512_storeu_si512(p,
                          _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(rounded_bf16(a), 16), rounded_bf16(b)));
    else
      store<D>(p, a), store<D>(p + kWidth, b);
  }

  template <DType D>
  static F widen(__m256i v) {
    if constexpr (D == DType::bf16) return widen_bf16(v);
    return _mm512_cvtph_ps(v);
  }
  template <DType D>
  static __m256i narrow(F v) {
    if constexpr (D == DType::bf16) return narrow_bf16(v);
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  template <DType D, class E>
  static F load(const E* p) {
    if constexpr (D == DType::f32)
      return _mm512_loadu_ps(p);
    else
      return widen<D>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  template <DType D, class E>
  static void store(E* p, F v) {
    if constexpr (D == DType::f32)
      _mm512_storeu_ps(p, v);
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow<D>(v));
  }
  static __mmask16 first(int64_t n) { return __mmask16((1u << n) - 1); }
  template <DType D, class E>
  static F load_tail(const E* p, int64_t n, float fill) {
    if constexpr (D == DType::f32)
      return _mm512_mask_loadu_ps(set(fill), first(n), p);
    else
      return _mm512_mask_mov_ps(set(fill), first(n), widen<D>(_mm256_maskz_loadu_epi16(first(n), p)));
  }
  template <DType D, class E>
  static void store_tail(E* p, F v, int64_t n) {
    if constexpr (D == DType::f32)
      _mm512_mask_storeu_ps(p, first(n), v);
    else
      _mm256_mask_storeu_epi16(p, first(n), narrow<D>(v));
  }
};

#include "kernels/cpu/rows.inl"

}  // namespace

const RowKernels& rows_avx512() {
  static constexpr RowKernels kernels{"avx512", 65536, sums, gradient};
  return kernels;
}
}  // namespace fg::kernels
#endif
