#include "torch/optimizer.h"

#include <cmath>

#include "torch/checkpoint.h"
#include "torch/cpu_context.h"
#include "torch/error.h"

namespace fg {

Optimizer::Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters) {
  for (auto& [name, leaf] : parameters) {
    Slot slot;
    slot.name = name;
    slot.parameter = leaf.requires_grad_(true);
    const auto options = leaf.options().dtype(at::kFloat).requires_grad(false);
    if (leaf.scalar_type() != at::kFloat) slot.master = leaf.detach().to(at::kFloat);
    slot.moment1 = at::zeros(leaf.sizes(), options);
    slot.moment2 = at::zeros(leaf.sizes(), options);
    slot.decay =
        leaf.dim() >= 2;  // TRL and transformers leave out biases and norms: exactly the one-dimensional tensors
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::collect_gradients() {
  for (auto& slot : slots_) {
    at::Tensor& left = slot.parameter.mutable_grad();
    if (!left.defined()) continue;
    if (slot.touched)
      slot.gradient.add_(left);
    else if (slot.gradient.defined() && left.scalar_type() != at::kFloat)
      slot.gradient.copy_(left);
    else
      slot.gradient = left.to(at::kFloat).contiguous();  // float32: taken over, not copied
    slot.touched = true;
    left.reset();
  }
}

at::Tensor Optimizer::gradient_of(const at::Tensor& leaf) {
  for (auto& slot : slots_) {
    if (!slot.parameter.is_same(leaf)) continue;
    if (!slot.gradient.defined())
      slot.gradient = at::zeros(leaf.sizes(), leaf.options().dtype(at::kFloat).requires_grad(false));
    else if (!slot.touched)
      slot.gradient.zero_();
    slot.touched = true;
    return slot.gradient;
  }
  TORCH_CHECK(false, "not a trained parameter");
}

void Optimizer::complete_gradients() {
  for (auto& slot : slots_) gradient_of(slot.parameter);
}

std::vector<kernels::AdamWTensor> Optimizer::views() const {
  std::vector<kernels::AdamWTensor> views;
  for (const auto& s : slots_)
    views.push_back({s.parameter.data_ptr(), s.master.defined() ? s.master.data_ptr<float>() : nullptr,
                     s.touched ? s.gradient.data_ptr<float>() : nullptr, s.moment1.data_ptr<float>(),
                     s.moment2.data_ptr<float>(), s.parameter.numel(), s.decay});
  return views;
}

double Optimizer::gradient_norm() const {
  const auto tensors = views();
  const auto count = static_cast<int64_t>(tensors.size());
  std::vector<double> workspace(kernels::gradient_norm_workspace(tensors.data(), count));
  return kernels::gradient_norm(cpu_context(), tensors.data(), count, workspace.data());
}

double Optimizer::step(const AdamWOptions& options) {
  const auto tensors = views();
  const double norm = gradient_norm();
  if (!std::isfinite(norm)) {
    zero_gradients();
    throw CodedError("ERR_TRAINING", "The gradient is not finite: the optimizer step was not made");
  }
  const double t = static_cast<double>(++steps_);
  const AdamWStep step{static_cast<float>(options.learning_rate),
                       static_cast<float>(options.beta1),
                       static_cast<float>(options.beta2),
                       static_cast<float>(options.epsilon),
                       static_cast<float>(options.weight_decay),
                       static_cast<float>(1 - std::pow(options.beta1, t)),
                       static_cast<float>(1 - std::pow(options.beta2, t)),
                       clip_scale(norm, options.max_gradient_norm)};
  kernels::adamw(cpu_context(), tensors.data(), static_cast<int64_t>(tensors.size()), step);
  zero_gradients();
  return norm;
}

void Optimizer::zero_gradients() {
  for (auto& slot : slots_) {
    slot.touched = false;
    slot.parameter.mutable_grad().reset();
    // What was autograd's own goes back to the allocator: the next backward makes new ones before these are needed.
    if (slot.parameter.scalar_type() == at::kFloat) slot.gradient.reset();
  }
}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> state;
  for (const auto& s : slots_) {
    state.emplace_back(s.name + ".exp_avg", s.moment1);
    state.emplace_back(s.name + ".exp_avg_sq", s.moment2);
    if (s.master.defined()) state.emplace_back(s.name + ".master", s.master);
  }
  return state;
}

void Optimizer::save(const std::string& path) const {
  auto tensors = state();
  // The step count as two float32 digits to the base 2^20, which float32 holds exactly.
  const float digits[2] = {static_cast<float>(steps_ >> 20), static_cast<float>(steps_ & 0xfffff)};
  tensors.emplace_back("steps", at::tensor(at::ArrayRef<float>(digits, 2)));
  write_safetensors(path, tensors);
}

void Optimizer::load(const std::string& path) {
  const Checkpoint file({path});
  at::Tensor steps = at::zeros({2});
  if (file.names().size() != state().size() + 1)
    throw model_error(path + ": it belongs to another model, dtype or choice of trained parameters");
  file.copy_to("steps", steps);
  for (auto& [name, tensor] : state()) file.copy_to(name, tensor);
  steps_ = (static_cast<int64_t>(steps[0].item<float>()) << 20) + static_cast<int64_t>(steps[1].item<float>());
  zero_gradients();
  at::NoGradGuard no_grad;
  for (auto& s : slots_)
    if (s.master.defined()) s.parameter.copy_(s.master);
}

int64_t Optimizer::bytes() const {
  int64_t bytes = 0;
  for (const auto& s : slots_)
    for (const at::Tensor* t : {&s.master, &s.gradient, &s.moment1, &s.moment2})
      if (t->defined()) bytes += static_cast<int64_t>(t->nbytes());
  return bytes;
}

}  // namespace fg
