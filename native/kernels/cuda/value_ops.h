#pragma once
// The ops of kernels/value_ops.h on device memory: every pointer of the argument structs is a device pointer. As in
// kernels/cuda/ops.h, work is queued on context.stream, nothing allocates or waits; scratch is `workspace` of
// <op>_workspace() bytes, 16-byte aligned, contents irrelevant. Results do not change from run to run.
#include "kernels/cuda/launch.h"
#include "kernels/value_ops.h"

namespace fg::cuda {

/// What an op found, written to device memory (8-byte aligned) by its last launch. With a fault all outputs are of no
/// use.
struct TotalsOutcome {
  kernels::Status status;
  kernels::Totals totals;  // of value_loss and preference_loss
};

Launch gae(const Context&, const kernels::GaeArgs&, void* workspace, TotalsOutcome*);
size_t gae_workspace(int64_t rows);

Launch value_loss(const Context&, const kernels::ValueLossArgs&, void* workspace, TotalsOutcome*);
size_t value_loss_workspace();

Launch preference_loss(const Context&, const kernels::PreferenceLossArgs&, void* workspace, TotalsOutcome*);
size_t preference_loss_workspace();

Launch pass_at_k_advantages(const Context&, const kernels::PassAtKArgs&, void* workspace, TotalsOutcome*);
size_t pass_at_k_advantages_workspace();

Launch process_advantages(const Context&, const kernels::ProcessAdvantagesArgs&, void* workspace, TotalsOutcome*);
size_t process_advantages_workspace();

Launch multi_reward_advantages(const Context&, const kernels::MultiRewardArgs&, void* workspace, TotalsOutcome*);
size_t multi_reward_advantages_workspace(int64_t count);

Launch rewards_with_kl(const Context&, const kernels::RewardsWithKlArgs&, void* workspace, TotalsOutcome*);
size_t rewards_with_kl_workspace();

}  // namespace fg::cuda
