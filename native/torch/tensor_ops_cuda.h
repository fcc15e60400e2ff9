#pragma once
// The functional ops where the logits lie in libtorch's memory, on the CPU or on a GPU. Token-sized arrays come from
// the host and go back to it; on a GPU they are copied, and the work runs on torch's current stream.
#include "kernels/kernels.h"
#include "torch/torch_min.h"

namespace fg {

/// What an op found and made; arrays are float32 on the host.
struct TensorOutcome {
  kernels::Status status;
  kernels::PolicyMetrics metrics;  // of grpo_loss
  at::Tensor logps, lse, entropies;
};

/// Pointers of the arguments are host pointers, but for the matrices' data, which is on `device`. Outputs and scratch
/// of the arguments are ignored: they are made here. Entropies come back where they are wanted.
TensorOutcome tensor_selective_logp(kernels::SelectiveLogpArgs, c10::Device device, bool entropy);
TensorOutcome tensor_selective_logp_backward(kernels::SelectiveLogpBackwardArgs, c10::Device device);
TensorOutcome tensor_grpo_loss(kernels::GrpoLossArgs, const LossParams&, c10::Device device);

}  // namespace fg
