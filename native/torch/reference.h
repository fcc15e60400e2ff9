#pragma once
// The unfused twin of kernels::grpo_loss: log_softmax, gather and the same token formula on tensors; autograd makes the
// gradient. For `fused: false`, tests and benchmarks.
#include "kernels/kernels.h"
#include "torch/torch_min.h"

namespace fg {

struct UnfusedLoss {
  kernels::Status status;  // not ok: the rest is empty
  at::Tensor loss;         // scalar fp64 that autograd can differentiate (when the logits require a gradient)
  at::Tensor logps;        // (N) fp32, 0 where not selected
  at::Tensor entropies;    // (N) fp32, empty unless wanted
  kernels::PolicyMetrics metrics;
};

/// `logits` (N, V) on the CPU, fp32 or 16 bits; rows that are not selected are not read. `records`: scratch of N.
UnfusedLoss unfused_grpo_loss(const at::Tensor& logits, const int32_t* targets, double temperature, const LossParams&,
                              const kernels::PolicyBatch&, bool want_entropy, kernels::TokenRecord* records);

}  // namespace fg
