#pragma once
// The head's product into memory that is reused: logits are the largest temporaries there are, and fresh large
// allocations fault page by page.
#include "torch/head_products.h"
#include "torch/model/transformer.h"

namespace fg {

class LogitsBuffer {
 public:
  /// rows (N, hidden) -> (N, vocab), soft cap included; valid until the next call. Records no gradient.
  at::Tensor fill(const Transformer& model, const at::Tensor& rows) {
    const at::NoGradGuard no_grad;
    const int64_t need = rows.size(0) * model.vocab();
    if (!memory_.defined() || memory_.numel() < need || memory_.scalar_type() != rows.scalar_type())
      memory_ = at::empty({need}, rows.options().requires_grad(false));
    at::Tensor logits = memory_.narrow(0, 0, need).view({rows.size(0), model.vocab()});
    head_logits(logits, rows, model.head_weight());
    if (const double cap = model.logit_softcap(); cap > 0) logits.div_(cap).tanh_().mul_(cap);
    return logits;
  }

 private:
  at::Tensor memory_;
};

}  // namespace fg
