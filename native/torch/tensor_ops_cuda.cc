#include "torch/tensor_ops_cuda.h"

#include <c10/core/DeviceGuard.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/ops.h"
#include "torch/cpu_context.h"
#include "torch/cuda_context.h"

namespace fg {
namespace {

/// Token-sized arrays of one call on the device that is current; freed with it, in stream order.
class DeviceArrays {
 public:
  explicit DeviceArrays(c10::Device device) : guard_(device), options_(at::TensorOptions(at::kByte).device(device)) {
    context.stream = current_cuda_stream(device.index());
  }

  template <class T>
  T* copy(T* host, int64_t count) {
    if (!host || count == 0) return nullptr;
    const int64_t bytes = count * int64_t(sizeof(T));
    // from_blob only reads: the constness that it drops is kept
    at::Tensor from =
        at::from_blob(const_cast<void*>(static_cast<const void*>(host)), {bytes}, at::TensorOptions(at::kByte));
    kept_.push_back(from.to(options_.device()));
    return static_cast<T*>(kept_.back().data_ptr());
  }
  void* scratch(size_t bytes) {
    kept_.push_back(at::empty({int64_t(bytes)}, options_));
    return kept_.back().data_ptr();
  }
  /// An output (count) whose host copy fetch() makes.
  float* output(int64_t count, at::Tensor* host) {
    *host = at::empty({count}, at::TensorOptions(options_).dtype(at::kFloat));
    return host->data_ptr<float>();
  }
  void copy_layout(Layout* l) {
    l->mask = copy(l->mask, l->rows);
    l->truncated = copy(l->truncated, l->sequences);
    l->offsets = copy(l->offsets, l->sequences + 1);
  }

  /// After the launch: waits, brings the outputs to the host, and says what was found.
  void fetch(const cuda::Outcome* outcome, TensorOutcome* out) {
    at::Tensor bytes =
        at::from_blob(const_cast<cuda::Outcome*>(outcome), {int64_t(sizeof(cuda::Outcome))}, options_).cpu();
    cuda::Outcome found;
    std::memcpy(&found, bytes.data_ptr(), sizeof found);
    out->status = found.status, out->metrics = found.metrics;
    for (at::Tensor* t : {&out->logps, &out->lse, &out->entropies})
      if (t->defined()) *t = t->cpu();
  }

  Context context{};
  void* workspace(int64_t rows) { return scratch(cuda::workspace_bytes(rows)); }
  cuda::Outcome* outcome() { return static_cast<cuda::Outcome*>(scratch(sizeof(cuda::Outcome))); }

 private:
  c10::DeviceGuard guard_;
  at::TensorOptions options_;
  std::vector<at::Tensor> kept_;
};

float* host_output(int64_t count, at::Tensor* t) {
  *t = at::empty({count}, at::TensorOptions(at::kFloat));
  return t->data_ptr<float>();
}

void copy_batch(DeviceArrays& d, kernels::PolicyBatch* b) {
  const int64_t n = b->layout.rows;
  b->old_logps = d.copy(b->old_logps, n), b->ref_logps = d.copy(b->ref_logps, n);
  b->sampler_logps = d.copy(b->sampler_logps, n), b->weights = d.copy(b->weights, n);
  b->advantages = d.copy(b->advantages, b->advantages_per_token ? n : b->layout.sequences);
  d.copy_layout(&b->layout);
}

}  // namespace

TensorOutcome tensor_selective_logp(kernels::SelectiveLogpArgs a, c10::Device device, bool entropy) {
  TensorOutcome out;
  const int64_t n = a.layout.rows;
  if (device.is_cpu()) {
    std::vector<kernels::Fault> faults(static_cast<size_t>(n));
    a.faults = faults.data();
    a.logps = host_output(n, &out.logps), a.lse = host_output(n, &out.lse);
    a.entropies = entropy ? host_output(n, &out.entropies) : nullptr;
    out.status = kernels::selective_logp(cpu_context(), a);
    return out;
  }
  DeviceArrays d(device);
  a.targets = d.copy(a.targets, n);
  d.copy_layout(&a.layout);
  a.logps = d.output(n, &out.logps), a.lse = d.output(n, &out.lse);
  a.entropies = entropy ? d.output(n, &out.entropies) : nullptr;
  cuda::Outcome* found = d.outcome();
  FG_CUDA_OP(cuda::selective_logp(d.context, a, d.workspace(n), found));
  d.fetch(found, &out);
  return out;
}

TensorOutcome tensor_selective_logp_backward(kernels::SelectiveLogpBackwardArgs a, c10::Device device) {
  TensorOutcome out;
  const int64_t n = a.layout.rows;
  if (device.is_cpu()) {
    std::vector<kernels::Fault> faults(static_cast<size_t>(n));
    a.faults = faults.data();
    out.status = kernels::selective_logp_backward(cpu_context(), a);
    return out;
  }
  DeviceArrays d(device);
  a.targets = d.copy(a.targets, n);
  a.grad_logps = d.copy(a.grad_logps, n), a.grad_entropies = d.copy(a.grad_entropies, n);
  d.copy_layout(&a.layout);
  cuda::Outcome* found = d.outcome();
  FG_CUDA_OP(cuda::selective_logp_backward(d.context, a, d.workspace(n), found));
  d.fetch(found, &out);
  return out;
}

TensorOutcome tensor_grpo_loss(kernels::GrpoLossArgs a, const LossParams& p, c10::Device device) {
  TensorOutcome out;
  const int64_t n = a.batch.layout.rows;
  if (device.is_cpu()) {
    std::vector<kernels::TokenRecord> records(static_cast<size_t>(n));
    a.records = records.data();
    a.logps = host_output(n, &out.logps);
    a.entropies = a.want_entropy ? host_output(n, &out.entropies) : nullptr;
    out.status = kernels::grpo_loss(cpu_context(), p, a, &out.metrics);
    return out;
  }
  DeviceArrays d(device);
  a.targets = d.copy(a.targets, n);
  copy_batch(d, &a.batch);
  a.logps = d.output(n, &out.logps);
  a.entropies = a.want_entropy ? d.output(n, &out.entropies) : nullptr;
  cuda::Outcome* found = d.outcome();
  FG_CUDA_OP(cuda::grpo_loss(d.context, p, a, nullptr, d.workspace(n), found));
  d.fetch(found, &out);
  return out;
}

}  // namespace fg
