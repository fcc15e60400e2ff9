#pragma once
// One row of logits as the sampler sees it: read 16 bytes at a time from any alignment, penalised, as integers that
// sort like the logits, and as integer masses whose sums do not depend on the order of additions.
#include "kernels/cuda/row_format.h"
#include "math/sampling.h"

namespace fg::cuda {

template <DType D>
FG_DEVICE float element(const void* row, int id) {
  return Format<D>::widen(load(static_cast<const typename Format<D>::Element*>(row) + id));
}

struct Span {
  int begin, end;
};

/// f(id, logit) for the ids of `span`, shared out among `count` threads (at least 16) of which this one is `rank`; a
/// thread sees its ids in ascending order. Threads diverge: f must not shuffle or wait.
template <DType D, class F>
FG_DEVICE void walk(const void* row, Span span, int rank, int count, Cache cache, F f) {
  using Format = cuda::Format<D>;
  const auto* from = static_cast<const typename Format::Element*>(row) + span.begin;
  const RowSpan<D> parts(from, span.end - span.begin);
  if (rank < parts.head) f(span.begin + rank, element<D>(row, span.begin + rank));
  Vec16 next = {};
  if (rank < parts.vectors) next = load16(from + parts.vector_column(rank), cache);
  for (int i = rank; i < parts.vectors; i += count) {
    const Vec16 now = next;
    if (i + count < parts.vectors) next = load16(from + parts.vector_column(i + count), cache);
    float values[Format::kPer];
    Format::unpack(now, values);
    FG_UNROLL
    for (int k = 0; k < Format::kPer; ++k) f(span.begin + parts.vector_column(i) + k, values[k]);
  }
  const int last = span.end - parts.tail + rank;
  if (rank < parts.tail) f(last, element<D>(row, last));
}

/// A row and its repetition penalty.
template <DType D>
struct Logits {
  const void* row;
  int vocab;
  const uint8_t* seen;  // null: no penalty
  float penalty;

  FG_DEVICE Span whole() const { return {0, vocab}; }
  FG_DEVICE float penalise(int id, float z) const { return seen && load(seen + id) ? penalised(z, penalty) : z; }
};

// ---- order: an integer that is smaller for a larger logit and equal for equal ones (-0 and 0 included). Not of NaN.
constexpr uint32_t kLowest = 0xFF800000u;  // of -inf

FG_DEVICE uint32_t order_of(float z) {
  const uint32_t bits = float_as_bits(z + 0.0f);  // -0 + 0 is 0
  return bits ^ (~uint32_t(int32_t(bits) >> 31) & 0x7FFFFFFFu);
}
FG_DEVICE float from_order(uint32_t order) {
  return bits_as_float(order ^ (~uint32_t(int32_t(order) >> 31) & 0x7FFFFFFFu));
}

/// The leading bits of `order` that can differ between elements: f16 has 5 + 10 bits, three more exponent bits in f32.
template <DType D>
FG_DEVICE int order_bits(bool penalised) {
  return penalised || D == DType::f32 ? 32 : D == DType::bf16 ? 16 : 19;
}

// ---- weight and mass
/// weight(z) = exp((z - top) / temperature), at most 1. Its mass is weight * 2^shift, rounded down: integers add up to
/// the same sum in any order, and differences of sums are exact.
struct Weights {
  float top;
  float scale;  // log2(e) / temperature
  int shift;

  FG_DEVICE float weight(float z) const {
    const float w = exp2_fast((z - top) * scale);
    return w < 1.0f ? w : 1.0f;
  }
  /// By shifting the significand: much cheaper than the conversion to 64 bits. Below 2^-shift it is 0.
  FG_DEVICE uint64_t mass_of(float w) const {
    const uint32_t bits = float_as_bits(w), significand = (bits & 0x7FFFFFu) | 0x800000u;
    const int down = 127 - int(bits >> 23);  // a shift by 64 or more would be undefined; by 63 nothing is left
    return (uint64_t(significand) << (shift - 23)) >> (down < 63 ? down : 63);
  }
  FG_DEVICE uint64_t mass(float z) const { return mass_of(weight(z)); }
  /// A logit that elements of at least that weight reach, with room for rounding.
  FG_DEVICE float logit_of(double w) const {
    return w > 0 ? float(double(top) + std::log2(w * 0.99) / double(scale)) : from_order(kLowest);
  }
};

/// The largest shift with which `vocab` (below 2^30) masses add up to less than 2^63.
inline int mass_shift(int64_t vocab) {
  int width = 0;
  while (vocab >> width) ++width;
  return 63 - width;
}

}  // namespace fg::cuda
