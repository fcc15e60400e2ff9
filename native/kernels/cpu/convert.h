#pragma once
// One number at a time between fp32 and the 16-bit formats, to nearest, ties to even.
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fg::kernels {
namespace {  // a copy per translation unit: each is compiled for its own instruction set

inline float bits_to_float(uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}
inline uint32_t float_to_bits(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}

inline float bf16_to_float(uint16_t v) { return bits_to_float(uint32_t(v) << 16); }
inline uint16_t float_to_bf16(float v) {
  const uint32_t bits = float_to_bits(v);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return uint16_t((bits >> 16) | 0x40);  // NaN stays NaN
  return uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

inline float f16_to_float(uint16_t v) {
  const uint32_t sign = uint32_t(v & 0x8000) << 16, exponent = (v >> 10) & 31, fraction = v & 1023;
  if (exponent == 31) return bits_to_float(sign | 0x7F800000 | fraction << 13);
  if (exponent != 0) return bits_to_float(sign | (exponent + 112) << 23 | fraction << 13);
  return bits_to_float(sign | float_to_bits(float(fraction) * 0x1p-24f));
}
inline uint16_t float_to_f16(float v) {
  const uint32_t bits = float_to_bits(v), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return uint16_t(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return uint16_t(sign | 0x7C00);  // rounds beyond the largest half
  if (magnitude < 0x38800000) {  // a denormal half: adding 1/2 leaves the rounded fraction in the low bits
    return uint16_t(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3F000000));
  }
  return uint16_t(sign | ((magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13));
}

}  // namespace
}  // namespace fg::kernels
