#include "capi/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "capi/failure.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/value_ops.h"

namespace fg::capi::device {
namespace {

void must(int code, const char* what) {
  if (code == cudaSuccess) return;
  (void)cudaGetLastError();
  const auto status = code == cudaErrorMemoryAllocation ? FG_OUT_OF_MEMORY : FG_CUDA_FAILED;
  throw Failure{status, {}, std::string(what) + ": " + cudaGetErrorString(cudaError_t(code))};
}

/// The outcome lies at the beginning of the scratch, in 64 bytes or more that leave the rest aligned.
constexpr size_t kOutcomeBytes = (std::max(sizeof(cuda::Outcome), sizeof(cuda::TotalsOutcome)) + 63) / 64 * 64;

/// Queues `op` with these arguments, waits for it, and reads what it found.
template <class Outcome, class Op, class... Args>
Outcome run(Op op, void* scratch, void* stream, const Args&... args) {
  Context context{};
  context.stream = stream;
  void* workspace = static_cast<char*>(scratch) + kOutcomeBytes;
  const cuda::Launch launch = op(context, args..., workspace, static_cast<Outcome*>(scratch));
  must(launch.code, launch.what ? launch.what : "a kernel");
  Outcome found;
  to_host(&found, scratch, sizeof found, stream);
  return found;
}

}  // namespace

bool built() { return true; }
void require() {}

void to_host(void* to, const void* from, size_t bytes, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s), "cudaMemcpyAsync");
  must(cudaStreamSynchronize(s), "cudaStreamSynchronize");
}

size_t scratch_bytes(int64_t rows) {
  return kOutcomeBytes + std::max({cuda::workspace_bytes(rows), cuda::multi_reward_advantages_workspace(rows),
                                   cuda::process_advantages_workspace(), cuda::pass_at_k_advantages_workspace(),
                                   cuda::rewards_with_kl_workspace(), cuda::gae_workspace(rows),
                                   cuda::value_loss_workspace(), cuda::preference_loss_workspace()});
}

kernels::Status selective_logp(const kernels::SelectiveLogpArgs& k, void* scratch, void* stream) {
  return run<cuda::Outcome>(cuda::selective_logp, scratch, stream, k).status;
}

kernels::Status selective_logp_backward(const kernels::SelectiveLogpBackwardArgs& k, void* scratch, void* stream) {
  return run<cuda::Outcome>(cuda::selective_logp_backward, scratch, stream, k).status;
}

kernels::Status policy_loss(const LossParams& p, const kernels::PolicyLossArgs& k, void* scratch, void* stream,
                            kernels::PolicyMetrics* metrics) {
  const auto found = run<cuda::Outcome>(cuda::policy_loss, scratch, stream, p, k);
  *metrics = found.metrics;
  return found.status;
}

kernels::Status grpo_loss(const LossParams& p, const kernels::GrpoLossArgs& k, void* scratch, void* stream,
                          kernels::PolicyMetrics* metrics) {
  const auto found = run<cuda::Outcome>(cuda::grpo_loss, scratch, stream, p, k, nullptr);
  *metrics = found.metrics;
  return found.status;
}

kernels::Status group_advantages(const GroupAdvantages& a, void* scratch, void* stream) {
  const cuda::GroupAdvantagesArgs k{a.rewards,    a.count, a.group_offsets, a.groups,  a.options,
                                    a.advantages, a.mean,  a.std,           a.zero_std};
  return run<cuda::Outcome>(cuda::group_advantages, scratch, stream, k).status;
}

kernels::Status multi_reward_advantages(const kernels::MultiRewardArgs& k, void* scratch, void* stream) {
  return run<cuda::TotalsOutcome>(cuda::multi_reward_advantages, scratch, stream, k).status;
}

kernels::Status process_advantages(const kernels::ProcessAdvantagesArgs& k, void* scratch, void* stream) {
  return run<cuda::TotalsOutcome>(cuda::process_advantages, scratch, stream, k).status;
}

kernels::Status pass_at_k_advantages(const kernels::PassAtKArgs& k, void* scratch, void* stream) {
  return run<cuda::TotalsOutcome>(cuda::pass_at_k_advantages, scratch, stream, k).status;
}

kernels::Status rewards_with_kl(const kernels::RewardsWithKlArgs& k, void* scratch, void* stream) {
  return run<cuda::TotalsOutcome>(cuda::rewards_with_kl, scratch, stream, k).status;
}

kernels::Status gae(const kernels::GaeArgs& k, void* scratch, void* stream) {
  return run<cuda::TotalsOutcome>(cuda::gae, scratch, stream, k).status;
}

kernels::Status value_loss(const kernels::ValueLossArgs& k, void* scratch, void* stream, kernels::Totals* totals) {
  const auto found = run<cuda::TotalsOutcome>(cuda::value_loss, scratch, stream, k);
  *totals = found.totals;
  return found.status;
}

kernels::Status preference_loss(const kernels::PreferenceLossArgs& k, void* scratch, void* stream,
                                kernels::Totals* totals) {
  const auto found = run<cuda::TotalsOutcome>(cuda::preference_loss, scratch, stream, k);
  *totals = found.totals;
  return found.status;
}

}  // namespace fg::capi::device
