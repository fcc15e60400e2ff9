// NEON (every 64-bit Arm): 4 columns at a time.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <type_traits>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/rows_common.h"

namespace fg::kernels {
namespace {

struct FlushDenormals {
  FlushDenormals() {}  // denormals are not slow here
};

struct Vec {
  static constexpr int64_t kWidth = 4;
  static constexpr bool kPrefetch = true, kPairs = false, kClamp = true, kMasks = false;
  static constexpr float kFloor = -127;
  using F = float32x4_t;
  static F set(float v) { return vdupq_n_f32(v); }
  static F max(F a, F b) { return vmaxq_f32(a, b); }  // NaN in either is kept
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static float hmax(F a) { return vmaxnmvq_f32(a); }
  static float hsum(F a) {
    return (vgetq_lane_f32(a, 0) + vgetq_lane_f32(a, 2)) + (vgetq_lane_f32(a, 1) + vgetq_lane_f32(a, 3));
  }

  static constexpr const float* kPower = kExp2;
  static void split(F y, F scale, F& n, F& r) {
    const F x = mul(y, scale);
    n = vrndnq_f32(x);
    r = sub(x, n);
  }
  /// n >= -127, where the power is 0.
  static F raise(F p, F n) {
    return mul(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)));
  }

  template <DType D, class E>
  static F load(const E* p) {
    if constexpr (D == DType::f32)
      return vld1q_f32(p);
    else if constexpr (D == DType::bf16)
      return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
    else
      return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
  }
  template <DType D, class E>
  static void store(E* p, F v) {
    if constexpr (D == DType::f32) {
      vst1q_f32(p, v);
    } else if constexpr (D == DType::bf16) {  // to nearest, ties to even; gradients are finite
      const uint32x4_t i = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(i, 16), vdupq_n_u32(1));
      vst1_u16(p, vshrn_n_u32(vaddq_u32(i, vaddq_u32(odd, vdupq_n_u32(0x7FFF))), 16));
    } else {
      vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
    }
  }
};

#include "kernels/cpu/rows.inl"

}  // namespace

const RowKernels& rows_neon() {
  static constexpr RowKernels kernels{"neon", INT64_MAX, sums, gradient};
  return kernels;
}
}  // namespace fg::kernels
#endif
