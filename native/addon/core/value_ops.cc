// The functional ops of kernels/value_ops.h for JavaScript. Synchronous.
#include <vector>

#include "addon/common/value_arguments.h"
#include "addon/core/ops.h"

namespace fg {

using namespace kernels;

namespace {

/// Scratch of so many bytes.
class Scratch {
 public:
  explicit Scratch(size_t bytes) : doubles_((bytes + sizeof(double) - 1) / sizeof(double)) {}
  operator void*() { return doubles_.data(); }

 private:
  std::vector<double> doubles_;
};

GroupResults group_results(Napi::Env env, Napi::Object out, int64_t groups) {
  GroupResults r;
  r.mean = new_array<float>(env, out, "mean", groups);
  r.std = new_array<float>(env, out, "std", groups);
  r.zero_std = new_array<uint8_t>(env, out, "zeroStd", groups);
  return r;
}

Napi::Object Gae(Napi::Env env, const Arguments& a) {
  GaeArgs k = gae_arguments(a);
  auto out = Napi::Object::New(env);
  k.advantages = new_array<float>(env, out, "advantages", k.layout.rows);
  k.returns = new_array<float>(env, out, "returns", k.layout.rows);
  Culprits c = culprits_of(k.layout);
  c.token_rewards = k.rewards, c.values = k.values, c.last_values = k.last_values;
  raise_fault(gae(k, Scratch(gae_workspace(k.layout.rows))), c);
  return out;
}

Napi::Object ValueLoss(Napi::Env env, const Arguments& a) {
  ValueLossArgs k = value_loss_arguments(a);
  auto out = Napi::Object::New(env);
  k.grad_values = new_array<float>(env, out, "gradValues", k.layout.rows);
  Culprits c = culprits_of(k.layout);
  c.values = k.values, c.old_values = k.old_values, c.returns = k.returns;
  Totals totals;
  raise_fault(value_loss(k, &totals), c);
  out.Set("totals", totals_object(env, totals));
  return out;
}

Napi::Object PreferenceLoss(Napi::Env env, const Arguments& a) {
  PreferenceLossArgs k = preference_loss_arguments(a);
  auto out = Napi::Object::New(env);
  k.grad_chosen = new_array<float>(env, out, "gradChosen", k.pairs);
  k.grad_rejected = new_array<float>(env, out, "gradRejected", k.pairs);
  Culprits c;
  c.chosen_rewards = k.chosen, c.rejected_rewards = k.rejected, c.margins = k.margins;
  Totals totals;
  raise_fault(preference_loss(k, &totals), c);
  out.Set("totals", totals_object(env, totals));
  return out;
}

Napi::Object PassAtKAdvantages(Napi::Env env, const Arguments& a) {
  PassAtKArgs k = pass_at_k_arguments(a);
  auto out = Napi::Object::New(env);
  k.advantages = new_array<float>(env, out, "advantages", k.count);
  k.pass_at_k = new_array<float>(env, out, "passAtK", k.groups);
  Culprits c;
  c.rewards = k.rewards;
  raise_fault(pass_at_k_advantages(k), c);
  return out;
}

Napi::Object ProcessAdvantages(Napi::Env env, const Arguments& a) {
  ProcessAdvantagesArgs k = process_advantages_arguments(a);
  auto out = Napi::Object::New(env);
  k.advantages = new_array<float>(env, out, "advantages", k.layout.rows);
  k.results = group_results(env, out, k.groups);
  Culprits c;
  c.step_rewards = k.step_rewards;
  raise_fault(process_advantages(k, Scratch(process_advantages_workspace(k.steps))), c);
  return out;
}

Napi::Object MultiRewardAdvantages(Napi::Env env, const Arguments& a) {
  MultiRewardArgs k = multi_reward_arguments(a);
  auto out = Napi::Object::New(env);
  k.advantages = new_array<float>(env, out, "advantages", k.count);
  k.results = group_results(env, out, k.groups);
  Culprits c;
  c.function_rewards = k.rewards, c.completions = k.count;
  raise_fault(multi_reward_advantages(k, Scratch(multi_reward_advantages_workspace(k.count))), c);
  return out;
}

Napi::Object RewardsWithKl(Napi::Env env, const Arguments& a) {
  RewardsWithKlArgs k = rewards_with_kl_arguments(a);
  auto out = Napi::Object::New(env);
  k.out = new_array<double>(env, out, "rewards", k.layout.sequences);
  Culprits c = culprits_of(k.layout);
  c.rewards = k.rewards, c.logps = k.logps, c.ref_logps = k.ref_logps;
  raise_fault(rewards_with_kl(k), c);
  return out;
}

template <Napi::Object (*op)(Napi::Env, const Arguments&)>
Napi::Value guarded_op(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

}  // namespace

void register_value_ops(Napi::Env env, Napi::Object exports) {
  exports.Set("gae", Napi::Function::New(env, guarded_op<Gae>));
  exports.Set("valueLoss", Napi::Function::New(env, guarded_op<ValueLoss>));
  exports.Set("preferenceLoss", Napi::Function::New(env, guarded_op<PreferenceLoss>));
  exports.Set("passAtKAdvantages", Napi::Function::New(env, guarded_op<PassAtKAdvantages>));
  exports.Set("processAdvantages", Napi::Function::New(env, guarded_op<ProcessAdvantages>));
  exports.Set("multiRewardAdvantages", Napi::Function::New(env, guarded_op<MultiRewardAdvantages>));
  exports.Set("rewardsWithKl", Napi::Function::New(env, guarded_op<RewardsWithKl>));
}

}  // namespace fg
