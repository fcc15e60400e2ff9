#pragma once
// The three products of the head, with bfloat16 by way of float32 where the machine's bfloat16 products are slower: a
// slice of the vocabulary at a time, so that no float32 copy of the logits exists.
#include "torch/model/ops.h"

namespace fg {

constexpr int64_t kHeadSlice = 2048;  // of the vocabulary

inline bool by_way_of_float(const at::Tensor& t) {
  return t.is_cpu() && t.scalar_type() == at::kBFloat16 && !ops::fast_bfloat16();
}

/// fn(begin, columns) over slices of the vocabulary.
template <class Fn>
void each_slice(int64_t vocab, Fn fn) {
  for (int64_t at = 0; at < vocab; at += kHeadSlice) fn(at, std::min(kHeadSlice, vocab - at));
}

/// logits (rows, vocab) = rows (rows, hidden) W^T, W (vocab, hidden).
inline void head_logits(at::Tensor& logits, const at::Tensor& rows, const at::Tensor& weight) {
  if (!by_way_of_float(rows)) {
    at::mm_out(logits, rows, weight.t());
    return;
  }
  const at::Tensor wide = rows.to(at::kFloat);
  each_slice(weight.size(0), [&](int64_t at, int64_t n) {
    logits.narrow(1, at, n).copy_(at::mm(wide, weight.narrow(0, at, n).to(at::kFloat).t()));
  });
}

/// Both gradients by way of float32: returns dlogits W as float32, and adds dlogits^T rows to grad_weight (vocab,
/// hidden), of any dtype or undefined.
inline at::Tensor head_gradients_by_float(const at::Tensor& dlogits, const at::Tensor& rows, const at::Tensor& weight,
                                          const at::Tensor& grad_weight) {
  const at::Tensor wide = rows.to(at::kFloat);
  at::Tensor grad_rows = at::zeros_like(wide);
  each_slice(weight.size(0), [&](int64_t at, int64_t n) {
    const at::Tensor slice = dlogits.narrow(1, at, n).to(at::kFloat);
    grad_rows.addmm_(slice, weight.narrow(0, at, n).to(at::kFloat));
    if (!grad_weight.defined()) return;
    at::Tensor part = grad_weight.narrow(0, at, n);
    part.scalar_type() == at::kFloat ? part.addmm_(slice.t(), wide) : part.add_(at::mm(slice.t(), wide));
  });
  return grad_rows;
}

/// grad_weight (vocab, hidden) float32 += dlogits^T rows; returns dlogits W in the dtype of the rows.
inline at::Tensor head_gradients(const at::Tensor& dlogits, const at::Tensor& rows, const at::Tensor& weight,
                                 at::Tensor grad_weight) {
  if (by_way_of_float(dlogits))
    return head_gradients_by_float(dlogits, rows, weight, grad_weight).to(rows.scalar_type());
  if (dlogits.scalar_type() == at::kFloat)
    grad_weight.addmm_(dlogits.t(), rows);
  else
    grad_weight.add_(at::mm(dlogits.t(), rows));
  return at::mm(dlogits, weight);
}

}  // namespace fg
