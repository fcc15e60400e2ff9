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

template <>
struct Format<DType::bf16> {
  using Element = uint16_t;
  static constexpr int kPer = 8;
  static constexpr uint32_t kFill = 0xFF80FF80u;
  FG_DEVICE static float widen(Element e) { return bf16_low(e); }
  FG_DEVICE static Element narrow(float v) { return Element(pack_bf16(v, 0.0f)); }
  FG_DEVICE static void unpack(const Vec16& v, float (&f)[8]) {
    f[0] = bf16_low(v.x), f[1] = bf16_high(v.x), f[2] = bf16_low(v.y), f[3] = bf16_high(v.y);
    f[4] = bf16_low(v.z), f[5] = bf16_high(v.z), f[6] = bf16_low(v.w), f[7] = bf16_high(v.w);
  }
  FG_DEVICE static Vec16 pack(const float (&f)[8]) {
    Vec16 v;
    v.x = pack_bf16(f[0], f[1]), v.y = pack_bf16(f[2], f[3]), v.z = pack_bf16(f[4], f[5]), v.w = pack_bf16(f[6], f[7]);
    return v;
  }
};

template <>
struct Format<DType::f16> {
  using Element = uint16_t;
  static constexpr int kPer = 8;
  static constexpr uint32_t kFill = 0xFC00FC00u;
  FG_DEVICE static float widen(Element e) { return f16_low(e); }
  FG_DEVICE static Element narrow(float v) { return Element(pack_f16(v, 0.0f)); }
  FG_DEVICE static void unpack(const Vec16& v, float (&f)[8]) {
    f[0] = f16_low(v.x), f[1] = f16_high(v.x), f[2] = f16_low(v.y), f[3] = f16_high(v.y);
    f[4] = f16_low(v.z), f[5] = f16_high(v.z), f[6] = f16_low(v.w), f[7] = f16_high(v.w);
  }
  FG_DEVICE static Vec16 pack(const float (&f)[8]) {
    Vec16 v;
    v.x = pack_f16(f[0], f[1]), v.y = pack_f16(f[2], f[3]), v.z = pack_f16(f[4], f[5]), v.w = pack_f16(f[6], f[7]);
    return v;
  }
};

/// A row as a head of single elements up to 16-byte alignment, vectors, and a tail of single elements. Head and tail
/// together are fewer than 2 * kPer elements: thread i < singles() has the i-th of them.
template <DType D>
struct RowSpan {
  using F = Format<D>;
  int head, vectors, tail;

  FG_DEVICE RowSpan() : head(0), vectors(0), tail(0) {}
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
