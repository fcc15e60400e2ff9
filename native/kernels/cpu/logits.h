#pragma once
// What the vocabulary-sized ops share: walking rows, one row forward, one row's gradient.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/rows.h"
#include "kernels/kernels.h"

namespace fg::kernels {
namespace {  // a copy per translation unit

constexpr double kLog2e = 1.44269504088896340736;

/// Walks rows in order and knows each one's sequence and place in it.
class Cursor {
 public:
  Cursor(const Layout& layout, int64_t row) : layout_(layout), row_(row) {
    if (!layout.offsets) return;
    sequence_ =
        std::upper_bound(layout.offsets, layout.offsets + layout.sequences + 1, int32_t(row)) - layout.offsets - 1;
  }
  void next() {
    ++row_;
    while (layout_.offsets && sequence_ + 1 < layout_.sequences && row_ >= layout_.offsets[sequence_ + 1]) ++sequence_;
  }
  int64_t row() const { return row_; }
  int64_t sequence() const { return sequence_; }
  int64_t position() const { return layout_.offsets ? row_ - layout_.offsets[sequence_] : row_; }
  bool selected() const {
    return (!layout_.mask || layout_.mask[row_]) && (!layout_.truncated || !layout_.truncated[sequence_]);
  }
  void* in(const Rows& rows) const { return rows.pointer(rows.at(row_, sequence_, position())); }

 private:
  const Layout& layout_;
  int64_t row_, sequence_ = 0;
};

/// The first selected row whose target is outside the vocabulary.
inline Status check_targets(const Layout& layout, const int32_t* targets, int64_t vocab) {
  for (Cursor c(layout, 0); c.row() < layout.rows; c.next())
    if (c.selected() && (targets[c.row()] < 0 || targets[c.row()] >= vocab)) return {Fault::target, c.row()};
  return {};
}

/// Rows per parallel piece: enough work to be worth handing out, and several in a row so that the next can be
/// prefetched.
inline int64_t chunk_rows(int64_t rows, int64_t vocab) {
  const int64_t by_work = (32768 + vocab - 1) / std::max<int64_t>(vocab, 1);
  return std::max(by_work, std::clamp<int64_t>(rows / 64, 1, 8));
}

inline double element(const Rows& rows, const void* row, int64_t column) {
  if (rows.dtype == DType::f32) return static_cast<const float*>(row)[column];
  const uint16_t raw = static_cast<const uint16_t*>(row)[column];
  return rows.dtype == DType::bf16 ? bf16_to_float(raw) : f16_to_float(raw);
}

inline void set_element(const Rows& rows, void* row, int64_t column, float value) {
  if (rows.dtype == DType::f32) {
    static_cast<float*>(row)[column] = value;
  } else {
    static_cast<uint16_t*>(row)[column] = rows.dtype == DType::bf16 ? float_to_bf16(value) : float_to_f16(value);
  }
}

struct RowResult {
  RowSoftmax softmax;
  RestSums rest;  // maximum in logits
};

/// From a row's sums to its statistics.
inline RowResult row_result(const Rows& rows, const void* row, int64_t target, double temperature, RestSums rest) {
  const RestSums scaled{rest.max / temperature, rest.sum, rest.weighted};
  return {row_softmax(scaled, element(rows, row, target) / temperature), rest};
}

/// Where the powers of one row after the other are kept; nowhere where there is no use or no memory for them.
class KeptPowers {
 public:
  KeptPowers(const Context& context, const RowKernels& kernels, const Rows& rows, bool wanted) {
    const bool pays = rows.dtype != DType::f32 || rows.vocab <= kernels.most_kept;
    if (!wanted || !pays || !context.scratch) return;
    void* memory = context.scratch(RowPowers::floats(rows.vocab) * int64_t(sizeof(float)));
    if (memory) powers_ = RowPowers::in(static_cast<float*>(memory), rows.vocab), present_ = true;
  }
  const RowPowers* get() const { return present_ ? &powers_ : nullptr; }

 private:
  RowPowers powers_{};
  bool present_ = false;
};

/// `kept` (or null): for this row's gradient.
inline RowResult forward_row(const RowKernels& kernels, const Rows& rows, const void* row, int64_t target,
                             double temperature, bool entropy, const RowPowers* kept) {
  RestSums rest;
  kernels.sums(rows.dtype, row, rows.vocab, target, float(kLog2e / temperature), entropy, kept, &rest);
  return row_result(rows, row, target, temperature, rest);
}

inline void zero_row(const Rows& grad, void* out) { std::memset(out, 0, size_t(grad.vocab) * size_of(grad.dtype)); }

/// Gradient of c * logp(target) + h * entropy by the raw logits: math/softmax.h, row_slope.
inline void gradient_row(const RowKernels& kernels, const Rows& rows, const void* row, const Rows& grad, void* out,
                         int64_t target, double temperature, const RowResult& r, double c, double h,
                         const RowPowers* kept, const void* next) {
  if (c == 0 && h == 0) return zero_row(grad, out);
  const RowSlopeOf<double> slope = row_slope(r.softmax, c, h, temperature);
  const RowGradient g{float(r.rest.max), float(slope.a), float(slope.b / kLog2e)};  // the sweeps work in powers of two
  if (g.a == 0 && g.b == 0) {
    zero_row(grad, out);
  } else {
    kernels.gradient(rows.dtype, row, out, rows.vocab, float(kLog2e / temperature), g, kept, next);
  }
  set_element(grad, out, target, float(slope.own + 0.0));  // never -0
}

/// The row after this one if it will be read, to be fetched while this one is written.
inline const void* upcoming(Cursor c, const Rows& rows, int64_t end) {
  c.next();
  return c.row() < end && c.selected() ? c.in(rows) : nullptr;
}

inline Status first_fault(const Fault* faults, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i)
    if (faults[i] != Fault::none) return {faults[i], i};
  return {};
}

}  // namespace
}  // namespace fg::kernels
