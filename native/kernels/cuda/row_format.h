#pragma once
// Sixteen bytes of logits as floats and back, and where the 16-byte vectors of a row begin and end.
#include "kernels/cuda/platform.h"
#include "kernels/view.h"

namespace fg::cuda {

template <DType D>
struct Format;

template <>
struct Format<DType::f32> {
  using Element = float;
  static constexpr int kPer = 4;                  // elements of a vector
  static constexpr uint32_t kFill = 0xFF800000u;  // -inf
  FG_DEVICE static float widen(Element e) { return e; }
  FG_DEVICE static Element narrow(float v) { return v; }
  FG_DEVICE static void unpack(const Vec16& v, float (&f)[4]) {
    f[0] = bits_as_float(v.x), f[1] = bits_as_float(v.y), f[2] = bits_as_float(v.z), f[3] = bits_as_float(v.w);
  }
  FG_DEVICE static Vec16 pack(const float (&f)[4]) {
    Vec16 v;
    v.x = float_as_bits(f[0]), v.y = float_as_bits(f[1]), v.z = float_as_bits(f[2]), v.w = float_as_bits(f[3]);
    return v;
  }
};

/// The two 16-bit formats: pairs of elements in 32 bits.
template <DType D>
struct PairFormat {
  using Element = uint16_t;
  static constexpr int kPer = 8;
  FG_DEVICE static float low(uint32_t pair) { return D == DType::bf16 ? bf16_low(pair) : f16_low(pair); }
  FG_DEVICE static float high(uint32_t pair) { return D == DType::bf16 ? bf16_high(pair) : f16_high(pair); }
  FG_DEVICE static uint32_t pair(float low, float high) {
    return D == DType::bf16 ? pack_bf16(low, high) : pack_f16(low, high);
  }
  FG_DEVICE static float widen(Element e) { return low(e); }
  FG_DEVICE static Element narrow(float v) { return Element(pair(v, 0.0f)); }
  FG_DEVICE static void unpack(const Vec16& v, float (&f)[8]) {
    f[0] = low(v.x), f[1] = high(v.x), f[2] = low(v.y), f[3] = high(v.y);
    f[4] = low(v.z), f[5] = high(v.z), f[6] = low(v.w), f[7] = high(v.w);
  }
  FG_DEVICE static Vec16 pack(const float (&f)[8]) {
    Vec16 v;
    v.x = pair(f[0], f[1]), v.y = pair(f[2], f[3]), v.z = pair(f[4], f[5]), v.w = pair(f[6], f[7]);
    return v;
  }
};

template <>
struct Format<DType::bf16> : PairFormat<DType::bf16> {
  static constexpr uint32_t kFill = 0xFF80FF80u;
};

template <>
struct Format<DType::f16> : PairFormat<DType::f16> {
  static constexpr uint32_t kFill = 0xFC00FC00u;
};

/// A row as a head of single elements up to 16-byte alignment, vectors, and a tail of single elements. Head and tail
/// together are fewer than 2 * kPer elements: thread i < singles() has the i-th of them.
template <DType D>
struct RowSpan {
  using F = Format<D>;
  int head, vectors, tail;

  FG_DEVICE RowSpan(const typename F::Element* row, int vocab) {
    const int past = int(reinterpret_cast<uintptr_t>(row) & 15) / int(sizeof(typename F::Element));
    head = past == 0 ? 0 : F::kPer - past;
    head = head < vocab ? head : vocab;
    vectors = (vocab - head) / F::kPer;
    tail = vocab - head - vectors * F::kPer;
  }
  FG_DEVICE int singles() const { return head + tail; }
  FG_DEVICE int single_column(int i) const { return i < head ? i : vectors * F::kPer + i; }
  FG_DEVICE int vector_column(int v) const { return head + v * F::kPer; }
  /// The vector that holds a column, or -1.
  FG_DEVICE int vector_of(int column) const {
    const int v = (column - head) / F::kPer;
    return column >= head && v < vectors ? v : -1;
  }
};

/// Replaces element i of a vector; i is not known when the kernel is compiled, the vector is in registers.
template <DType D>
FG_DEVICE void set_in_vector(Vec16& v, int i, typename Format<D>::Element e) {
  uint32_t word, keep;
  int w;
  if constexpr (D == DType::f32) {
    word = float_as_bits(e), keep = 0, w = i;
  } else {
    word = i & 1 ? uint32_t(e) << 16 : uint32_t(e), keep = i & 1 ? 0x0000FFFFu : 0xFFFF0000u, w = i >> 1;
  }
  v.x = w == 0 ? (v.x & keep) | word : v.x;
  v.y = w == 1 ? (v.y & keep) | word : v.y;
  v.z = w == 2 ? (v.z & keep) | word : v.z;
  v.w = w == 3 ? (v.w & keep) | word : v.w;
}

template <DType D>
FG_DEVICE typename Format<D>::Element minus_infinity() {
  if constexpr (D == DType::f32)
    return bits_as_float(Format<D>::kFill);
  else
    return uint16_t(Format<D>::kFill);
}

template <DType D>
FG_DEVICE Vec16 filler() {
  Vec16 v;
  v.x = v.y = v.z = v.w = Format<D>::kFill;
  return v;
}

/// Stores a vector where the gradient's rows may lie at another alignment than the logits'.
template <DType D>
FG_DEVICE void store_vector(typename Format<D>::Element* to, const Vec16& v, bool aligned) {
  if (aligned) return store16(to, v, Cache::streaming);
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
  FG_UNROLL
  for (int i = 0; i < 4; ++i) {
    if constexpr (D == DType::f32) {
      store(to + i, bits_as_float(words[i]));
    } else {
      store(to + 2 * i, uint16_t(words[i]));
      store(to + 2 * i + 1, uint16_t(words[i] >> 16));
    }
  }
}

}  // namespace fg::cuda
