#include "capi/device.h"

#include <cuda_runtime_api.h>

#include "capi/failure.h"
#include "kernels/cuda/ops.h"

namespace fg::capi::device {
namespace {

void must(int code, const char* what) {
  if (code == cudaSuccess) return;
  (void)cudaGetLastError();
  const auto status = code == cudaErrorMemoryAllocation ? FG_OUT_OF_MEMORY : FG_CUDA_FAILED;
  throw Failure{status, {}, std::string(what) + ": " + cudaGetErrorString(cudaError_t(code))};
}

/// The outcome lies at the beginning of the scratch, in 64 bytes or more that leave the rest aligned.
constexpr size_t kOutcomeBytes = (sizeof(cuda::Outcome) + 63) / 64 * 64;
cuda::Outcome* outcome(void* scratch) { return static_cast<cuda::Outcome*>(scratch); }
void* workspace(void* scratch) { return static_cast<char*>(scratch) + kOutcomeBytes; }

Context on(void* stream) {
  Context c{};
  c.stream = stream;
  return c;
}

cuda::Outcome finish(const cuda::Launch& launch, void* scratch, void* stream) {
  must(launch.code, launch.what ? launch.what : "a kernel");
  cuda::Outcome found;
  to_host(&found, outcome(scratch), sizeof found, stream);
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

size_t scratch_bytes(int64_t rows) { return kOutcomeBytes + cuda::workspace_bytes(rows); }

kernels::Status selective_logp(const kernels::SelectiveLogpArgs& k, void* scratch, void* stream) {
  const cuda::Launch l = cuda::selective_logp(on(stream), k, workspace(scratch), outcome(scratch));
  return finish(l, scratch, stream).status;
}

kernels::Status selective_logp_backward(const kernels::SelectiveLogpBackwardArgs& k, void* scratch, void* stream) {
  const cuda::Launch l = cuda::selective_logp_backward(on(stream), k, workspace(scratch), outcome(scratch));
  return finish(l, scratch, stream).status;
}

kernels::Status policy_loss(const LossParams& p, const kernels::PolicyLossArgs& k, void* scratch, void* stream,
                            kernels::PolicyMetrics* metrics) {
  const cuda::Launch l = cuda::policy_loss(on(stream), p, k, workspace(scratch), outcome(scratch));
  const cuda::Outcome found = finish(l, scratch, stream);
  *metrics = found.metrics;
  return found.status;
}

kernels::Status grpo_loss(const LossParams& p, const kernels::GrpoLossArgs& k, void* scratch, void* stream,
                          kernels::PolicyMetrics* metrics) {
  const cuda::Launch l = cuda::grpo_loss(on(stream), p, k, nullptr, workspace(scratch), outcome(scratch));
  const cuda::Outcome found = finish(l, scratch, stream);
  *metrics = found.metrics;
  return found.status;
}

kernels::Status group_advantages(const GroupAdvantages& a, void* scratch, void* stream) {
  const cuda::GroupAdvantagesArgs k{a.rewards,    a.count, a.group_offsets, a.groups,  a.options,
                                    a.advantages, a.mean,  a.std,           a.zero_std};
  const cuda::Launch l = cuda::group_advantages(on(stream), k, workspace(scratch), outcome(scratch));
  return finish(l, scratch, stream).status;
}

}  // namespace fg::capi::device
