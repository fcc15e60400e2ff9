#pragma once
// The GPU's part of the ops, and what stands in for it in a library without CUDA (no_device.cc).
#include <cstddef>
#include <cstdint>

#include "kernels/value_ops.h"

namespace fg::capi::device {

bool built();
/// Throws FG_NO_CUDA unless built().
void require();

/// Waits for the stream. Throws FG_CUDA_FAILED, as everything below.
void to_host(void* to, const void* from, size_t bytes, void* stream);

/// Scratch of every op below.
size_t scratch_bytes(int64_t rows);

// The kernels on device memory: queued on the stream and waited for.
kernels::Status selective_logp(const kernels::SelectiveLogpArgs&, void* scratch, void* stream);
kernels::Status selective_logp_backward(const kernels::SelectiveLogpBackwardArgs&, void* scratch, void* stream);
kernels::Status policy_loss(const LossParams&, const kernels::PolicyLossArgs&, void* scratch, void* stream,
                            kernels::PolicyMetrics*);
kernels::Status grpo_loss(const LossParams&, const kernels::GrpoLossArgs&, void* scratch, void* stream,
                          kernels::PolicyMetrics*);

struct GroupAdvantages {
  const double* rewards;
  int64_t count;
  const int32_t* group_offsets;
  int64_t groups;
  AdvantageOptions options;
  float *advantages, *mean, *std;
  uint8_t* zero_std;
};
kernels::Status group_advantages(const GroupAdvantages&, void* scratch, void* stream);

kernels::Status multi_reward_advantages(const kernels::MultiRewardArgs&, void* scratch, void* stream);
kernels::Status process_advantages(const kernels::ProcessAdvantagesArgs&, void* scratch, void* stream);
kernels::Status pass_at_k_advantages(const kernels::PassAtKArgs&, void* scratch, void* stream);
kernels::Status rewards_with_kl(const kernels::RewardsWithKlArgs&, void* scratch, void* stream);
kernels::Status gae(const kernels::GaeArgs&, void* scratch, void* stream);
kernels::Status value_loss(const kernels::ValueLossArgs&, void* scratch, void* stream, kernels::Totals*);
kernels::Status preference_loss(const kernels::PreferenceLossArgs&, void* scratch, void* stream, kernels::Totals*);

}  // namespace fg::capi::device
