// Any machine: 4 columns at a time in the compiler's own vectors.
#include <type_traits>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/rows_common.h"

namespace fg::kernels {
namespace {

struct FlushDenormals {
  FlushDenormals() {}
};

struct Vec {
  static constexpr int64_t kWidth = 4;
  static constexpr bool kPrefetch = false, kPairs = false, kClamp = true, kMasks = false;
  static constexpr float kFloor = -127;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));
  typedef uint16_t H __attribute__((vector_size(8)));
  static F set(float v) { return F{v, v, v, v}; }
  static F max(F a, F b) { return a > b ? a : b; }  // NaN in b is kept
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static float hmax(F a) {
    float m = a[0];
    for (int i = 1; i < 4; ++i) m = m > a[i] ? m : a[i];
    return m;
  }
  static float hsum(F a) { return (a[0] + a[2]) + (a[1] + a[3]); }

  /// Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits. With 127 more and shifted, they are
  /// the power's; at -127 that is 0.
  static constexpr const float* kPower = kExp2;
  static void split(F y, F scale, F& n, F& r) {
    const F x = y * scale, shift = set(0x1.8p23f + 127);
    n = x + shift;
    r = x - (n - shift);
  }
  static F raise(F p, F n) { return p * F(I(n) << 23); }

  static H narrow_bf16(F v) {  // to nearest, ties to even; gradients are finite, so NaN needs no care
    const U i = U(v);
    return __builtin_convertvector((i + (((i >> 16) & 1) + 0x7FFF)) >> 16, H);
  }
  template <DType D, class E>
  static F load(const E* p) {
    F v;
    if constexpr (D == DType::f32) {
      memcpy(&v, p, sizeof v);
    } else if constexpr (D == DType::bf16) {
      H h;
      memcpy(&h, p, sizeof h);
      v = F(__builtin_convertvector(h, U) << 16);
    } else {
      for (int i = 0; i < 4; ++i) v[i] = f16_to_float(p[i]);
    }
    return v;
  }
  template <DType D, class E>
  static void store(E* p, F v) {
    if constexpr (D == DType::f32) {
      memcpy(p, &v, sizeof v);
    } else if constexpr (D == DType::bf16) {
      const H h = narrow_bf16(v);
      memcpy(p, &h, sizeof h);
    } else {
      for (int i = 0; i < 4; ++i) p[i] = float_to_f16(v[i]);
    }
  }
};

#include "kernels/cpu/rows.inl"

}  // namespace

const RowKernels& rows_portable() {
  static constexpr RowKernels kernels{"portable", INT64_MAX, sums, gradient};
  return kernels;
}
}  // namespace fg::kernels
