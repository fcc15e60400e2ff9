// The ops on device memory for a build without CUDA: nothing is queued, and every Launch says why.
#include "kernels/cuda/adamw.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/sampling.h"

namespace fg::cuda {

static Launch none(const char* what) { return {-1, what, __FILE__, __LINE__}; }

Device current_device() {
  Device d;
  d.code = -1;
  return d;
}

size_t workspace_bytes(int64_t) { return 0; }

Launch group_advantages(const Context&, const GroupAdvantagesArgs&, void*, Outcome*) {
  return none("group_advantages");
}
Launch selective_logp(const Context&, const kernels::SelectiveLogpArgs&, void*, Outcome*) {
  return none("selective_logp");
}
Launch selective_logp_backward(const Context&, const kernels::SelectiveLogpBackwardArgs&, void*, Outcome*) {
  return none("selective_logp_backward");
}
Launch policy_loss(const Context&, const LossParams&, const kernels::PolicyLossArgs&, void*, Outcome*) {
  return none("policy_loss");
}
Launch grpo_loss(const Context&, const LossParams&, const kernels::GrpoLossArgs&, const GroupAdvantagesArgs*, void*,
                 Outcome*) {
  return none("grpo_loss");
}
Launch gradient_norm(const Context&, const GradientNormArgs&) { return none("gradient_norm"); }
Launch adamw(const Context&, const AdamWArgs&) { return none("adamw"); }
Launch sample(const Context&, const SampleArgs&) { return none("sample"); }

}  // namespace fg::cuda
