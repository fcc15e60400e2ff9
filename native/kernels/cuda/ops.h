#pragma once
// The ops of kernels.h on device memory. Every pointer of the argument structs is a device pointer; work is queued on
// context.stream; nothing allocates, nothing waits. `faults` and `records` of the arguments are not used: scratch is
// one `workspace` of <op>_workspace() bytes, 16-byte aligned, contents irrelevant.
#include "kernels/adamw.h"
#include "kernels/cuda/launch.h"
#include "kernels/decode.h"
#include "kernels/kernels.h"

namespace fg::cuda {

/// What an op found, written to device memory (8-byte aligned) by its last launch. With a fault of targets, log-probs
/// or advantages nothing else has been written; with a fault of the logits the named row and other bad rows are 0.
struct Outcome {
  kernels::Status status;
  kernels::PolicyMetrics metrics;  // of policy_loss and grpo_loss
};

size_t workspace_bytes(int64_t rows);  // of every op of this header but the optimizer's and sampling

struct GroupAdvantagesArgs {
  const double* rewards = nullptr;  // (count)
  int64_t count = 0;
  const int32_t* group_offsets = nullptr;  // (groups + 1)
  int64_t groups = 0;
  AdvantageOptions options;
  float* advantages = nullptr;  // (count)
  float* mean = nullptr;        // (groups), may be null, as std and zero_std
  float* std = nullptr;
  uint8_t* zero_std = nullptr;
};
Launch group_advantages(const Context&, const GroupAdvantagesArgs&, void* workspace, Outcome*);

Launch selective_logp(const Context&, const kernels::SelectiveLogpArgs&, void* workspace, Outcome*);
Launch selective_logp_backward(const Context&, const kernels::SelectiveLogpBackwardArgs&, void* workspace, Outcome*);
Launch policy_loss(const Context&, const LossParams&, const kernels::PolicyLossArgs&, void* workspace, Outcome*);

/// `rewards` null: batch.advantages are given. Otherwise they are made from rewards (one per sequence) in the same op,
/// and rewards->advantages (sequences) is what batch.advantages points to.
Launch grpo_loss(const Context&, const LossParams&, const kernels::GrpoLossArgs&, const GroupAdvantagesArgs* rewards,
                 void* workspace, Outcome*);

}  // namespace fg::cuda
