#pragma once
// GRPO's loss on torch tensors as a differentiable function, by libfused_grpo.so.
#include <fused_grpo.h>
#include <torch/torch.h>

#include <memory>
#include <stdexcept>
#include <vector>

namespace fused_grpo {

struct Error : fg_error {
  Error() { fg_error_init(this, sizeof(fg_error)); }
  void check(fg_status status) const {
    if (status != FG_OK) throw std::invalid_argument(message);
  }
};

/// A struct of the C ABI with its defaults.
template <class T>
T make(fg_status (*init)(T*, size_t)) {
  T x;
  init(&x, sizeof x);
  return x;
}

/// Threads for the calls of this program: one a core, asleep between calls.
inline fg_pool* pool() {
  static const std::unique_ptr<fg_pool, void (*)(fg_pool*)> made = [] {
    fg_pool* p = nullptr;
    Error error;
    error.check(fg_pool_create(0, &p, &error));
    return std::unique_ptr<fg_pool, void (*)(fg_pool*)>(p, fg_pool_destroy);
  }();
  return made.get();
}

/// (B) rewards, those of one prompt side by side -> (B) float32 advantages relative to the group.
inline torch::Tensor group_advantages(const torch::Tensor& rewards, int64_t num_generations) {
  const torch::Tensor values = rewards.to(torch::kFloat64).contiguous();
  const int64_t groups = values.numel() / num_generations;
  torch::Tensor advantages = torch::empty({values.numel()}, torch::kFloat32);
  std::vector<int32_t> offsets(static_cast<size_t>(groups) + 1);
  Error error;
  error.check(fg_uniform_offsets(groups, num_generations, offsets.data(), &error));
  auto args = make(fg_group_advantages_args_init);
  args.count = values.numel(), args.groups = groups;
  args.rewards = values.const_data_ptr<double>(), args.group_offsets = offsets.data();
  args.advantages = advantages.mutable_data_ptr<float>();
  error.check(fg_group_advantages_scratch(&args, &args.scratch_bytes, &error));
  const torch::Tensor scratch = torch::empty({static_cast<int64_t>(args.scratch_bytes)}, torch::kUInt8);
  args.scratch = scratch.mutable_data_ptr();
  error.check(fg_group_advantages(&args, nullptr, &error));
  return advantages;
}

/// What the loss needs besides the logits. B completions of T tokens.
struct Batch {
  torch::Tensor targets;     // (B, T) int32
  torch::Tensor advantages;  // (B) float32
  torch::Tensor old_logps;   // (B, T) float32; undefined: on policy
  torch::Tensor mask;        // (B, T) uint8, 0 leaves a token out; undefined: every token counts
  fg_loss_options options = make(fg_loss_options_init);
  fg_metrics metrics = make(fg_metrics_init);  // out
  /// The gradient is written into the logits' own memory: no second copy. Right where nothing reads the logits after
  /// the loss: a linear layer's gradient needs its inputs, not its output.
  bool in_place = true;
};

class GrpoLoss : public torch::autograd::Function<GrpoLoss> {
 public:
  /// `logits`: (B, T, V) float32, bfloat16 or float16 on the CPU. The loss is a scalar of float32; the gradient is
  /// computed with it.
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& logits, Batch* batch) {
    TORCH_CHECK_VALUE(logits.dim() == 3 && logits.is_contiguous() && logits.device().is_cpu(),
                      "logits: expected a contiguous (B, T, V) tensor on the CPU");
    const int64_t sequences = logits.size(0), length = logits.size(1);
    const torch::Tensor gradient = batch->in_place ? logits.detach() : torch::empty_like(logits);
    std::vector<int32_t> offsets(static_cast<size_t>(sequences) + 1);
    Error error;
    error.check(fg_uniform_offsets(sequences, length, offsets.data(), &error));

    auto layout = make(fg_layout_init);
    layout.rows = sequences * length, layout.sequences = sequences, layout.offsets = offsets.data();
    if (batch->mask.defined()) layout.mask = pointer<uint8_t>(batch->mask, layout.rows, "mask");
    auto in = matrix(logits), out = matrix(gradient);
    auto policy = make(fg_policy_batch_init);
    policy.layout = &layout;
    policy.advantages = pointer<float>(batch->advantages, sequences, "advantages");
    if (batch->old_logps.defined()) policy.old_logps = pointer<float>(batch->old_logps, layout.rows, "old_logps");

    auto args = make(fg_grpo_loss_args_init);
    args.batch = &policy, args.logits = &in, args.grad = &out, args.metrics = &batch->metrics;
    args.targets = pointer<int32_t>(batch->targets, layout.rows, "targets");
    error.check(fg_grpo_loss_scratch(&args, &args.scratch_bytes, &error));
    const torch::Tensor scratch = torch::empty({static_cast<int64_t>(args.scratch_bytes)}, torch::kUInt8);
    args.scratch = scratch.mutable_data_ptr();
    auto exec = make(fg_exec_init);
    exec.pool = pool();
    error.check(fg_grpo_loss(&args, &batch->options, &exec, &error));
    ctx->saved_data["gradient"] = gradient;
    return torch::scalar_tensor(batch->metrics.loss, torch::kFloat32);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& by_loss) {
    const torch::Tensor gradient = ctx->saved_data["gradient"].toTensor();
    const float scale = by_loss[0].item<float>();  // 1 unless the loss is part of a larger one
    return {scale == 1 ? gradient : gradient * scale, torch::Tensor()};
  }

 private:
  static fg_matrix matrix(const torch::Tensor& t) {
    auto m = make(fg_matrix_init);
    m.data = t.mutable_data_ptr(), m.vocab = t.size(2);
    switch (t.scalar_type()) {
      case torch::kFloat32:
        m.dtype = FG_FLOAT32;
        break;
      case torch::kBFloat16:
        m.dtype = FG_BFLOAT16;
        break;
      case torch::kFloat16:
        m.dtype = FG_FLOAT16;
        break;
      default:
        TORCH_CHECK_TYPE(false, "logits: expected float32, bfloat16 or float16 but received ", t.scalar_type());
    }
    return m;
  }

  template <class T>
  static const T* pointer(const torch::Tensor& t, int64_t size, const char* name) {
    TORCH_CHECK_VALUE(t.is_contiguous() && t.numel() == size && t.scalar_type() == c10::CppTypeToScalarType<T>::value,
                      name, ": expected ", size, " contiguous numbers of type ", c10::CppTypeToScalarType<T>::value);
    return t.const_data_ptr<T>();
  }
};

/// GRPO's loss of logits (B, T, V); fills batch.metrics.
inline torch::Tensor grpo_loss(const torch::Tensor& logits, Batch& batch) { return GrpoLoss::apply(logits, &batch); }

}  // namespace fused_grpo
