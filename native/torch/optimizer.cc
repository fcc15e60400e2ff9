#include "torch/optimizer.h"

#include <atomic>
#include <cmath>
#include <cstring>

#include "torch/checkpoint.h"
#include "torch/cpu_context.h"
#include "torch/error.h"
#include "torch/rank_group.h"

namespace fg {
namespace {

double norm_of(const std::vector<kernels::AdamWTensor>& tensors) {
  const auto count = static_cast<int64_t>(tensors.size());
  std::vector<double> workspace(kernels::gradient_norm_workspace(tensors.data(), count));
  return kernels::gradient_norm(cpu_context(), tensors.data(), count, workspace.data());
}

const std::atomic<bool> kNever{false};  // an exchange that is not part of an abortable call

/// Of parts of a vector that lie on the ranks: added in their order, so that all get the same bits.
double joint_norm(RankGroup& group, double norm) {
  double square = 0;
  for (const std::string& part : group.gather({reinterpret_cast<const char*>(&norm), sizeof norm}, kNever)) {
    double value;
    std::memcpy(&value, part.data(), sizeof value);
    square += value * value;
  }
  return std::sqrt(square);
}

}  // namespace

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
    slot.end = leaf.numel();
    starts_.push_back(starts_.empty() ? 0 : starts_.back() + slots_.back().parameter.numel());
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::collect(Slot& slot) {
  at::Tensor& left = slot.parameter.mutable_grad();
  if (!left.defined()) return;
  if (slot.touched)
    slot.gradient.add_(left);
  else if (slot.gradient.defined() && left.scalar_type() != at::kFloat)
    slot.gradient.copy_(left);
  else
    slot.gradient = left.to(at::kFloat).contiguous();  // float32: taken over, not copied
  slot.touched = true;
  left.reset();
}

void Optimizer::collect_gradients() {
  for (auto& slot : slots_) collect(slot);
}

at::Tensor Optimizer::final_gradient(size_t i) {
  const at::NoGradGuard no_grad;
  collect(slots_[i]);
  return gradient_of(slots_[i].parameter);
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
  for (const auto& s : slots_) {
    auto* parameter = static_cast<char*>(s.parameter.data_ptr()) + s.begin * s.parameter.element_size();
    views.push_back({parameter, s.master.defined() ? s.master.data_ptr<float>() : nullptr,
                     s.touched ? s.gradient.data_ptr<float>() + s.begin : nullptr, s.moment1.data_ptr<float>(),
                     s.moment2.data_ptr<float>(), s.end - s.begin, s.decay});
  }
  return views;
}

double Optimizer::gradient_norm() const {
  std::vector<kernels::AdamWTensor> whole;
  for (const auto& s : slots_)
    whole.push_back({nullptr, nullptr, s.touched ? s.gradient.data_ptr<float>() : nullptr, nullptr, nullptr,
                     s.parameter.numel(), s.decay});
  return norm_of(whole);
}

double Optimizer::step(const AdamWOptions& options) {
  const auto tensors = views();
  const double norm = group_ ? joint_norm(*group_, norm_of(tensors)) : norm_of(tensors);
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
  if (group_) share_parameters();
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

void Optimizer::shard(std::shared_ptr<RankGroup> group) {
  if (group->world_size() < 2) return;
  const bool again = group_ && group_->rank() == group->rank() && group_->world_size() == group->world_size();
  if (group_ && !again) throw std::runtime_error("A sharded optimizer stays with its rank and their number");
  group_ = std::move(group);
  if (again) return;  // the same ranks have met anew: the parts are what they were
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& s = slots_[i];
    s.begin = s.end = 0;
    for (const Piece& p : pieces(i))
      if (p.owner == group_->rank()) s.begin = p.begin, s.end = p.end;
    const auto mine = [&](const at::Tensor& whole) { return whole.view(-1).slice(0, s.begin, s.end).clone(); };
    if (s.master.defined()) s.master = mine(s.master);
    s.moment1 = mine(s.moment1);
    s.moment2 = mine(s.moment2);
  }
}

std::vector<Optimizer::Piece> Optimizer::pieces(size_t i) const {
  const int64_t n = slots_[i].parameter.numel();
  if (!group_) return {{0, 0, n}};
  const int64_t total = starts_.back() + slots_.back().parameter.numel(), start = starts_[i];
  const int64_t part = (total + group_->world_size() - 1) / group_->world_size();
  std::vector<Piece> pieces;
  for (int64_t at = start; at < start + n;) {
    const int64_t owner = at / part, end = std::min(start + n, (owner + 1) * part);
    pieces.push_back({static_cast<int>(owner), at - start, end - start});
    at = end;
  }
  return pieces;
}

void Optimizer::share_parameters() {
  const at::NoGradGuard no_grad;
  group_->meet(kNever);
  for (size_t i = 0; i < slots_.size(); ++i)
    for (const Piece& p : pieces(i))
      group_->begin_share(p.owner, slots_[i].parameter.detach().view(-1).slice(0, p.begin, p.end));
  group_->finish(kNever);
}

void Optimizer::save(const std::string& path) const {
  auto tensors = state();
  if (group_) {
    size_t at = 0;
    for (size_t i = 0; i < slots_.size(); ++i)
      for (int k = 0; k < (slots_[i].master.defined() ? 3 : 2); ++k, ++at) {
        at::Tensor whole = at::zeros(slots_[i].parameter.sizes(), at::kFloat);
        whole.view(-1).slice(0, slots_[i].begin, slots_[i].end).copy_(tensors[at].second);
        group_->meet(kNever);
        for (const Piece& p : pieces(i)) group_->begin_share(p.owner, whole.view(-1).slice(0, p.begin, p.end));
        group_->finish(kNever);
        if (group_->rank() == 0) tensors[at].second = whole;
      }
    if (group_->rank() != 0) return;
  }
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
  steps_ = (static_cast<int64_t>(steps[0].item<float>()) << 20) + static_cast<int64_t>(steps[1].item<float>());
  zero_gradients();
  const at::NoGradGuard no_grad;
  for (auto& s : slots_) {
    const auto restore = [&](const char* what, at::Tensor& to) {
      at::Tensor whole = group_ ? at::empty(s.parameter.sizes(), at::kFloat) : to;
      file.copy_to(s.name + what, whole);
      if (group_) to.copy_(whole.view(-1).slice(0, s.begin, s.end));
      return whole;
    };
    restore(".exp_avg", s.moment1);
    restore(".exp_avg_sq", s.moment2);
    if (s.master.defined()) s.parameter.copy_(restore(".master", s.master));
  }
}

int64_t Optimizer::bytes() const {
  int64_t bytes = 0;
  for (const auto& s : slots_)
    for (const at::Tensor* t : {&s.master, &s.gradient, &s.moment1, &s.moment2})
      if (t->defined()) bytes += static_cast<int64_t>(t->nbytes());
  return bytes;
}

}  // namespace fg
