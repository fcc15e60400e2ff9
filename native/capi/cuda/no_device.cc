// A library without CUDA: require() throws before anything else is called.
#include "capi/device.h"
#include "capi/failure.h"

namespace fg::capi::device {
namespace {

[[noreturn]] void none() {
  throw Failure{FG_NO_CUDA, {}, "This library was built without CUDA: build it with cmake -DFG_CUDA=ON where nvcc is"};
}

}  // namespace

bool built() { return false; }
void require() { none(); }
void to_host(void*, const void*, size_t, void*) { none(); }
size_t scratch_bytes(int64_t) { none(); }
kernels::Status selective_logp(const kernels::SelectiveLogpArgs&, void*, void*) { none(); }
kernels::Status selective_logp_backward(const kernels::SelectiveLogpBackwardArgs&, void*, void*) { none(); }
kernels::Status policy_loss(const LossParams&, const kernels::PolicyLossArgs&, void*, void*, kernels::PolicyMetrics*) {
  none();
}
kernels::Status grpo_loss(const LossParams&, const kernels::GrpoLossArgs&, void*, void*, kernels::PolicyMetrics*) {
  none();
}
kernels::Status group_advantages(const GroupAdvantages&, void*, void*) { none(); }
kernels::Status multi_reward_advantages(const kernels::MultiRewardArgs&, void*, void*) { none(); }
kernels::Status process_advantages(const kernels::ProcessAdvantagesArgs&, void*, void*) { none(); }
kernels::Status pass_at_k_advantages(const kernels::PassAtKArgs&, void*, void*) { none(); }
kernels::Status rewards_with_kl(const kernels::RewardsWithKlArgs&, void*, void*) { none(); }
kernels::Status gae(const kernels::GaeArgs&, void*, void*) { none(); }
kernels::Status value_loss(const kernels::ValueLossArgs&, void*, void*, kernels::Totals*) { none(); }
kernels::Status preference_loss(const kernels::PreferenceLossArgs&, void*, void*, kernels::Totals*) { none(); }

}  // namespace fg::capi::device
