#pragma once
// The three products of the head, with bfloat16 by way of float32 where the machine's bfloat16 products are slower. No
// float32 copy of the logits exists: the kernel needs none, libtorch's products take a slice of the vocabulary at a
// time.
#include "torch/model/ops.h"
#include "torch/wide_products.h"

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
  if (has_wide_product()) return wide_forward_into(logits, rows, weight, {});
  const at::Tensor wide = rows.to(at::kFloat);
  each_slice(weight.size(0), [&](int64_t at, int64_t n) {
    logits.narrow(1, at, n).copy_(at::mm(wide, weight.narrow(0, at, n).to(at::kFloat).t()));
  });
}

/// grad_weight (vocab, hidden), float32, += dlogits^T rows, by libtorch.
inline void add_product(at::Tensor grad_weight, const at::Tensor& dlogits, const at::Tensor& rows) {
  if (dlogits.scalar_type() == at::kFloat)
    grad_weight.addmm_(dlogits.t(), rows);
  else
    grad_weight.add_(at::mm(dlogits.t(), rows));
}

/// head_gradients by libtorch's products of float32.
inline void head_gradients_by_float(at::Tensor grad_rows, at::Tensor grad_weight, const at::Tensor& dlogits,
                                    const at::Tensor& rows, const at::Tensor& weight) {
  const at::Tensor wide = rows.to(at::kFloat);
  at::Tensor sum = at::zeros_like(wide);
  each_slice(weight.size(0), [&](int64_t at, int64_t n) {
    const at::Tensor slice = dlogits.narrow(1, at, n).to(at::kFloat);
    sum.addmm_(slice, weight.narrow(0, at, n).to(at::kFloat));
    if (grad_weight.defined()) grad_weight.narrow(0, at, n).addmm_(slice.t(), wide);
  });
  grad_rows.copy_(sum);
}

/// grad_rows (rows, hidden), in the dtype of the rows, = dlogits W; grad_weight (vocab, hidden), float32 or undefined,
/// += dlogits^T rows.
inline void head_gradients(at::Tensor grad_rows, const at::Tensor& grad_weight, const at::Tensor& dlogits,
                           const at::Tensor& rows, const at::Tensor& weight) {
  const bool by_float = by_way_of_float(dlogits);
  if (by_float && !has_wide_product()) return head_gradients_by_float(grad_rows, grad_weight, dlogits, rows, weight);
  by_float ? wide_product_into(grad_rows, dlogits, weight, {}, false) : (void)at::mm_out(grad_rows, dlogits, weight);
  if (!grad_weight.defined()) return;
  by_float ? wide_product_into(grad_weight, dlogits.t(), rows, {}, true) : add_product(grad_weight, dlogits, rows);
}

}  // namespace fg
