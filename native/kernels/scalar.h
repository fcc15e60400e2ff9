#pragma once
// Stored numbers of the model kernels (DType f32 and bf16; arithmetic is float32), and how one source serves several
// instruction sets.
#include <bit>
#include <cmath>
#include <cstdint>

// GCC compiles a function marked FG_CLONES once per instruction set and picks one when the library is loaded. What it
// calls must be inlined into it (FG_INLINE), otherwise the callee is compiled for the oldest set only. Name features,
// not "arch=": that asks for one CPU model. Products and sums are never contracted
// (-ffp-contract=off) and reductions have a fixed number of lanes, so that all clones give the same bits. (Kernels made
// of products have another way, tile_product.h.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FG_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FG_CLONES
#endif
#define FG_INLINE inline __attribute__((always_inline))
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors wider than the oldest set's: only ever passed to inlined functions

namespace fg {

struct bf16 {
  uint16_t bits;
};

FG_INLINE float load(const float* p) { return *p; }
FG_INLINE float load(const bf16* p) { return std::bit_cast<float>(static_cast<uint32_t>(p->bits) << 16); }
FG_INLINE void store(float* p, float v) { *p = v; }
/// Rounds to nearest even; a NaN stays a NaN.
FG_INLINE void store(bf16* p, float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  p->bits = static_cast<uint16_t>(v != v ? 0x7fc0u : rounded);
}
/// What a value becomes when it is stored and read again.
template <class T>
FG_INLINE float rounded(float v) {
  T t;
  store(&t, v);
  return load(&t);
}

constexpr int kLanes = 16;

/// Sum of f(0..n-1) in a fixed order (16 lanes, then a tree) that vectorises without reassociation.
template <class F>
FG_INLINE float lane_sum(int64_t n, F f) {
  float acc[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) acc[j] += f(i + j);
  for (int j = 0; i < n; ++i, ++j) acc[j] += f(i);
  for (int w = kLanes / 2; w > 0; w /= 2)
    for (int j = 0; j < w; ++j) acc[j] += acc[j + w];
  return acc[0];
}

/// exp for the loops that must vectorise: relative error below 2e-7 for -87 <= x <= 88, 0 below (and for -inf), inf
/// above, NaN for NaN.
FG_INLINE float exp_fast(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const float shifted = clamped * 1.44269504088896341f + magic;
  const float n = shifted - magic;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t e = (std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u;
  const float value = p * std::bit_cast<float>(e);
  const float low = x < -87.0f ? 0.0f : value;
  const float high = x > 88.0f ? INFINITY : low;
  return x != x ? x : high;
}

// ---- Sixteen lanes at a time, by GCC's vector types: one register or several, whatever the instruction set has
// ----------------------
using f32x16 = float __attribute__((vector_size(64)));
using i32x16 = int32_t __attribute__((vector_size(64)));
using u32x16 = uint32_t __attribute__((vector_size(64)));
using u16x16 = uint16_t __attribute__((vector_size(32)));
using f32x8 = float __attribute__((vector_size(32)));
using u32x8 = uint32_t __attribute__((vector_size(32)));
using u16x8 = uint16_t __attribute__((vector_size(16)));

template <class V>
FG_INLINE V load_vector(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
FG_INLINE V load_vector(const bf16* p) {
  if constexpr (sizeof(V) == 64) {
    u16x16 h;
    __builtin_memcpy(&h, p, sizeof h);
    return (V)(__builtin_convertvector(h, u32x16) << 16);
  } else {
    u16x8 h;
    __builtin_memcpy(&h, p, sizeof h);
    return (V)(__builtin_convertvector(h, u32x8) << 16);
  }
}

/// The largest lane, and the sum of the lanes by a tree: halves are folded onto each other in registers.
template <class Fold>
FG_INLINE float fold_lanes(f32x16 v, Fold fold) {
#if defined(__clang__)  // it has no __builtin_shuffle
  for (int w = 8; w > 0; w /= 2) {
    f32x16 turned = v;
    for (int j = 0; j < 16; ++j) turned[j] = v[j ^ w];
    v = fold(v, turned);
  }
#else
  v = fold(v, __builtin_shuffle(v, i32x16{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}));
  v = fold(v, __builtin_shuffle(v, i32x16{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11}));
  v = fold(v, __builtin_shuffle(v, i32x16{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13}));
  v = fold(v, __builtin_shuffle(v, i32x16{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));
#endif
  return v[0];
}
FG_INLINE float lane_max(const f32x16& v) {
  return fold_lanes(v, [](const f32x16& a, const f32x16& b) __attribute__((always_inline)) { return a > b ? a : b; });
}
FG_INLINE float lane_total(const f32x16& v) {
  return fold_lanes(v, [](const f32x16& a, const f32x16& b) __attribute__((always_inline)) { return a + b; });
}

/// exp_fast, sixteen at a time, the same operations in the same order; for finite or -inf arguments not above 88.
FG_INLINE f32x16 exp_fast(const f32x16& x) {
  const f32x16 zero = {};
  const f32x16 low = zero - 87.0f, clamped = x < low ? low : x, magic = zero + 12582912.0f;
  const f32x16 shifted = clamped * 1.44269504088896341f + magic;
  const f32x16 n = shifted - magic;
  f32x16 r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  f32x16 p = zero + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const f32x16 value = p * (f32x16)(((u32x16)shifted << 23) + 0x3f800000u);
  return x < low ? zero : value;
}

}  // namespace fg
