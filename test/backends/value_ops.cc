// The core addon's ops of kernels/value_ops.h, run by the CUDA kernels.
#include "kernels/cuda/value_ops.h"

#include "addon/common/value_arguments.h"
#include "backends/device_arrays.h"
#include "backends/exports.h"

namespace fg {

using namespace kernels;
using backend::context;
using backend::DeviceArrays;

namespace {

void to_device(DeviceArrays* d, Layout* l) {
  l->offsets = d->in(l->offsets, l->sequences + 1);
  l->mask = d->in(l->mask, l->rows);
}

/// What the op found, after its launches.
struct ValueRun {
  DeviceArrays arrays;
  void* workspace;
  cuda::TotalsOutcome* outcome;
  explicit ValueRun(size_t workspace_bytes)
      : workspace(arrays.scratch(workspace_bytes)),
        outcome(static_cast<cuda::TotalsOutcome*>(arrays.scratch(sizeof(cuda::TotalsOutcome)))) {}
  Totals finish(const cuda::Launch& l, const Culprits& culprits) {
    backend::check(l);
    cuda::TotalsOutcome o;
    if (!backend::written(&outcome->status, sizeof(Status::fault), sizeof(Status::fault)))
      throw backend::Violation("output not written", "the outcome was not written");
    backend::copy_out(&o, outcome, sizeof o);
    arrays.back(o.status.ok());
    raise_fault(o.status, culprits);
    return o.totals;
  }
};

GroupResults group_results(Napi::Env env, Napi::Object out, int64_t groups, DeviceArrays* d) {
  GroupResults r;
  r.mean = d->out(new_array<float>(env, out, "mean", groups), groups);
  r.std = d->out(new_array<float>(env, out, "std", groups), groups);
  r.zero_std = d->out(new_array<uint8_t>(env, out, "zeroStd", groups), groups);
  return r;
}

Napi::Object Gae(Napi::Env env, const Arguments& a) {
  GaeArgs k = gae_arguments(a);
  const int64_t n = k.layout.rows;
  Culprits c = culprits_of(k.layout);
  c.token_rewards = k.rewards, c.values = k.values, c.last_values = k.last_values;
  ValueRun run(cuda::gae_workspace(n));
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.rewards = d.in(k.rewards, n), k.values = d.in(k.values, n);
  k.last_values = d.in(k.last_values, k.layout.sequences);
  to_device(&d, &k.layout);
  k.advantages = d.out(new_array<float>(env, out, "advantages", n), n);
  k.returns = d.out(new_array<float>(env, out, "returns", n), n);
  run.finish(cuda::gae(context(), k, run.workspace, run.outcome), c);
  return out;
}

Napi::Object ValueLoss(Napi::Env env, const Arguments& a) {
  ValueLossArgs k = value_loss_arguments(a);
  const int64_t n = k.layout.rows;
  Culprits c = culprits_of(k.layout);
  c.values = k.values, c.old_values = k.old_values, c.returns = k.returns;
  ValueRun run(cuda::value_loss_workspace());
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.values = d.in(k.values, n), k.old_values = d.in(k.old_values, n), k.returns = d.in(k.returns, n);
  to_device(&d, &k.layout);
  k.grad_values = d.out(new_array<float>(env, out, "gradValues", n), n);
  out.Set("totals", totals_object(env, run.finish(cuda::value_loss(context(), k, run.workspace, run.outcome), c)));
  return out;
}

Napi::Object PreferenceLoss(Napi::Env env, const Arguments& a) {
  PreferenceLossArgs k = preference_loss_arguments(a);
  const int64_t n = k.pairs;
  Culprits c;
  c.chosen_rewards = k.chosen, c.rejected_rewards = k.rejected, c.margins = k.margins;
  ValueRun run(cuda::preference_loss_workspace());
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.chosen = d.in(k.chosen, n), k.rejected = d.in(k.rejected, n), k.margins = d.in(k.margins, n);
  k.grad_chosen = d.out(new_array<float>(env, out, "gradChosen", n), n);
  k.grad_rejected = d.out(new_array<float>(env, out, "gradRejected", n), n);
  out.Set("totals", totals_object(env, run.finish(cuda::preference_loss(context(), k, run.workspace, run.outcome), c)));
  return out;
}

Napi::Object PassAtKAdvantages(Napi::Env env, const Arguments& a) {
  PassAtKArgs k = pass_at_k_arguments(a);
  Culprits c;
  c.rewards = k.rewards;
  ValueRun run(cuda::pass_at_k_advantages_workspace());
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.rewards = d.in(k.rewards, k.count);
  k.group_offsets = d.in(k.group_offsets, k.groups + 1);
  k.advantages = d.out(new_array<float>(env, out, "advantages", k.count), k.count);
  k.pass_at_k = d.out(new_array<float>(env, out, "passAtK", k.groups), k.groups);
  run.finish(cuda::pass_at_k_advantages(context(), k, run.workspace, run.outcome), c);
  return out;
}

Napi::Object ProcessAdvantages(Napi::Env env, const Arguments& a) {
  ProcessAdvantagesArgs k = process_advantages_arguments(a);
  Culprits c;
  c.step_rewards = k.step_rewards;
  ValueRun run(cuda::process_advantages_workspace());
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.step_rewards = d.in(k.step_rewards, k.steps);
  k.step_ends = d.in(k.step_ends, k.steps);
  k.step_offsets = d.in(k.step_offsets, k.layout.sequences + 1);
  k.group_offsets = d.in(k.group_offsets, k.groups + 1);
  k.advantages = d.out(new_array<float>(env, out, "advantages", k.layout.rows), k.layout.rows);
  k.results = group_results(env, out, k.groups, &d);
  to_device(&d, &k.layout);
  run.finish(cuda::process_advantages(context(), k, run.workspace, run.outcome), c);
  return out;
}

Napi::Object MultiRewardAdvantages(Napi::Env env, const Arguments& a) {
  MultiRewardArgs k = multi_reward_arguments(a);
  Culprits c;
  c.function_rewards = k.rewards, c.completions = k.count;
  ValueRun run(cuda::multi_reward_advantages_workspace(k.count));
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.rewards = d.in(k.rewards, k.functions * k.count);
  k.weights = d.in(k.weights, k.functions);
  k.group_offsets = d.in(k.group_offsets, k.groups + 1);
  k.advantages = d.out(new_array<float>(env, out, "advantages", k.count), k.count);
  k.results = group_results(env, out, k.groups, &d);
  run.finish(cuda::multi_reward_advantages(context(), k, run.workspace, run.outcome), c);
  return out;
}

Napi::Object RewardsWithKl(Napi::Env env, const Arguments& a) {
  RewardsWithKlArgs k = rewards_with_kl_arguments(a);
  const int64_t n = k.layout.rows, sequences = k.layout.sequences;
  Culprits c = culprits_of(k.layout);
  c.rewards = k.rewards, c.logps = k.logps, c.ref_logps = k.ref_logps;
  ValueRun run(cuda::rewards_with_kl_workspace());
  DeviceArrays& d = run.arrays;
  auto out = Napi::Object::New(env);
  k.rewards = d.in(k.rewards, sequences);
  k.logps = d.in(k.logps, n), k.ref_logps = d.in(k.ref_logps, n);
  to_device(&d, &k.layout);
  k.out = d.out(new_array<double>(env, out, "rewards", sequences), sequences);
  run.finish(cuda::rewards_with_kl(context(), k, run.workspace, run.outcome), c);
  return out;
}

template <Napi::Object (*op)(Napi::Env, const Arguments&)>
Napi::Value wrapped(const Napi::CallbackInfo& info) {
  return backend::on_device(info.Env(), [&] { return op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

const backend::Exports kValueOps([](Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  add("gae", wrapped<Gae>);
  add("valueLoss", wrapped<ValueLoss>);
  add("preferenceLoss", wrapped<PreferenceLoss>);
  add("passAtKAdvantages", wrapped<PassAtKAdvantages>);
  add("processAdvantages", wrapped<ProcessAdvantages>);
  add("multiRewardAdvantages", wrapped<MultiRewardAdvantages>);
  add("rewardsWithKl", wrapped<RewardsWithKl>);
});

}  // namespace
}  // namespace fg
