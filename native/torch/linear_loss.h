#pragma once
// The policy loss of hidden states through a head, without the whole matrix of logits: rows are taken in chunks, each
// is multiplied by the head, turned into its gradient in place, and multiplied back.
#include "kernels/kernels.h"
#include "torch/torch_min.h"

namespace fg {

struct LinearLossArgs {
  kernels::PolicyBatch batch;        // on the host
  const int32_t* targets = nullptr;  // (rows), on the host
  double temperature = 1;
  double softcap = 0;  // of the logits: softcap * tanh(z / softcap); 0: none
  bool want_entropy = false;
  bool skip_zero_advantages = false;  // tokens that cannot contribute are left out, of the metrics as well
  at::Tensor hidden;                  // (rows, width) float32 or 16 bits
  at::Tensor weight;                  // (vocab, width), same dtype and device
  at::Tensor grad_hidden;             // like hidden; every element is written
  at::Tensor grad_weight;             // (vocab, width) float32, added to; undefined: the head is frozen
  int64_t workspace_bytes = 0;        // for logits: at least one row
};

struct LinearLossOutcome {
  kernels::Status status;  // not ok: the gradients are incomplete
  kernels::PolicyMetrics metrics;
  at::Tensor logps, entropies;  // (rows) float32 on the host; entropies where wanted
};

LinearLossOutcome linear_grpo_loss(const LinearLossArgs&, const LossParams&);

/// The three products alone, in the same chunks and the dtype of the weight (linear_grpo_loss itself may go by way of
/// float32): the yardstick of `bench linear`.
void linear_products(const LinearLossArgs&);

}  // namespace fg
