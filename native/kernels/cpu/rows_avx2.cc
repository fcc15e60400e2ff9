// AVX2 + FMA + F16C: 8 columns at a time.
#if defined(__x86_64__)
#include <immintrin.h>

#include <type_traits>

#include "kernels/cpu/rows_common.h"

#pragma GCC target("avx2,fma,f16c")

namespace fg::kernels {
namespace {

#include "kernels/cpu/flush_denormals.inl"

struct Vec {
  static constexpr int64_t kWidth = 8;
  static constexpr bool kPrefetch = true, kPairs = true, kClamp = true, kMasks = false;
  static constexpr float kFloor = -127;
  using F = __m256;
  static F set(float v) { return _mm256_set1_ps(v); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }  // NaN in b is kept
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }

  static float hmax(F a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }
  static float hsum(F a) {
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_movehdup_ps(m)));
  }

  /// Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits: with 127 more and shifted, they are
  /// the power's. At -127 that is 0. (A product, so that a NaN stays one whatever its bits.)
  static constexpr const float* kPower = kExp2;
  static void split(F y, F scale, F& n, F& r) {
    const F shift = set(0x1.8p23f + 127);
    n = fma(y, scale, shift);
    r = fma(y, scale, sub(shift, n));
  }
  static F raise(F p, F n) { return mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(n), 23))); }

  static constexpr int64_t kIntegers = 16;
  static __m256i integers(int v) { return _mm256_set1_epi16(short(v)); }
  static __m256i load_integers(const uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static __m256i max_signed(__m256i a, __m256i b) { return _mm256_max_epi16(a, b); }
  static __m256i min_unsigned(__m256i a, __m256i b) { return _mm256_min_epu16(a, b); }
  static int hmin_unsigned(__m256i a) {
    const __m128i m = _mm_min_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    return _mm_cvtsi128_si32(_mm_minpos_epu16(m)) & 0xFFFF;
  }
  static int hmax_signed(__m256i a) {  // 0x7FFF less the number reverses the order, from 0 on
    return 0x7FFF - hmin_unsigned(_mm256_sub_epi16(integers(0x7FFF), a));
  }

  // Two vectors of bfloat16: the even columns in one, the odd ones in the other, as in rows_avx512.cc.
  template <DType D, class E>
  static void load_pair(const E* p, F& a, F& b) {
    if constexpr (D == DType::bf16) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      a = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
      b = _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(int(0xFFFF0000))));
    } else {
      a = load<D>(p), b = load<D>(p + kWidth);
    }
  }
  /// The upper halves are v to nearest, ties to even.
  static __m256i rounded_bf16(F v) {
    const __m256i i = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(i, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(i, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  }
  template <DType D, class E>
  static void store_pair(E* p, F a, F b) {
    if constexpr (D == DType::bf16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                          _mm256_blend_epi16(_mm256_srli_epi32(rounded_bf16(a), 16), rounded_bf16(b), 0xAA));
    else
      store<D>(p, a), store<D>(p + kWidth, b);
  }

  template <DType D>
  static F widen(__m128i v) {
    if constexpr (D == DType::bf16)
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    else
      return _mm256_cvtph_ps(v);
  }
  static __m128i narrow_bf16(F v) {  // gradients are finite, so NaN needs no care
    const __m256i high = _mm256_srli_epi32(rounded_bf16(v), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
  template <DType D>
  static __m128i narrow(F v) {
    if constexpr (D == DType::bf16)
      return narrow_bf16(v);
    else
      return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  template <DType D, class E>
  static F load(const E* p) {
    if constexpr (D == DType::f32)
      return _mm256_loadu_ps(p);
    else
      return widen<D>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  template <DType D, class E>
  static void store(E* p, F v) {
    if constexpr (D == DType::f32)
      _mm256_storeu_ps(p, v);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow<D>(v));
  }
};

#include "kernels/cpu/rows.inl"

}  // namespace

const RowKernels& rows_avx2() {
  static constexpr RowKernels kernels{"avx2", INT64_MAX, sums, gradient};
  return kernels;
}
}  // namespace fg::kernels
#endif
