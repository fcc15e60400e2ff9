// The functional ops for JavaScript: arguments -> kernel -> typed arrays. Synchronous.
#include "addon/core/ops.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "addon/common/loss_arguments.h"
#include "addon/core/thread_pool.h"
#include "kernels/cpu/tokens.h"

namespace fg {

using namespace kernels;

namespace {

Napi::Object compute_advantages(Napi::Env env, const Arguments& a) {
  const RewardArguments r = reward_arguments(a);
  std::vector<double> workspace(group_advantages_workspace(r.count) / sizeof(double));
  auto out = Napi::Object::New(env);
  auto* advantages = new_array<float>(env, out, "advantages", r.count);
  auto* mean = new_array<float>(env, out, "mean", r.groups);
  auto* std = new_array<float>(env, out, "std", r.groups);
  auto* zero = new_array<uint8_t>(env, out, "zeroStd", r.groups);
  Culprits culprits;
  culprits.rewards = r.rewards;
  raise_fault(group_advantages(r.rewards, r.count, r.group_offsets, r.groups, r.options, advantages, mean, std, zero,
                               workspace.data()),
              culprits);
  return out;
}

Napi::Value GroupAdvantages(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return compute_advantages(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

Napi::Object selective_logp_op(Napi::Env env, const Arguments& a) {
  SelectiveLogpArgs k;
  k.layout = a.layout();
  k.logits = a.rows("logits", "rowStride", "sequenceStride", k.layout);
  k.targets = a.required<int32_t>("targets", k.layout.rows);
  k.temperature = a.number("temperature");
  auto out = Napi::Object::New(env);
  k.logps = new_array<float>(env, out, "logps", k.layout.rows);
  k.lse = new_array<float>(env, out, "lse", k.layout.rows);
  if (a.flag("entropy")) k.entropies = new_array<float>(env, out, "entropies", k.layout.rows);
  std::vector<Fault> faults(size_t(k.layout.rows));
  k.faults = faults.data();
  raise_fault(selective_logp(core_context(), k), {k.targets, k.logits.vocab});
  return out;
}

Napi::Value SelectiveLogp(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return selective_logp_op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

void selective_logp_backward_op(const Arguments& a) {
  SelectiveLogpBackwardArgs k;
  k.layout = a.layout();
  k.logits = a.rows("logits", "rowStride", "sequenceStride", k.layout);
  k.grad = a.rows("gradLogits", "gradRowStride", "gradSequenceStride", k.layout);
  k.targets = a.required<int32_t>("targets", k.layout.rows);
  k.temperature = a.number("temperature");
  k.grad_logps = a.required<float>("gradLogps", k.layout.rows);
  k.grad_entropies = a.array<float>("gradEntropies", k.layout.rows);
  std::vector<Fault> faults(size_t(k.layout.rows));
  k.faults = faults.data();
  raise_fault(selective_logp_backward(core_context(), k), {k.targets, k.logits.vocab});
}

Napi::Value SelectiveLogpBackward(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { selective_logp_backward_op(Arguments(info[0].As<Napi::Object>())); });
  return info.Env().Undefined();
}

Napi::Object policy_loss_op(Napi::Env env, const Arguments& a) {
  PolicyLossArgs k;
  k.batch = policy_batch(a);
  const LossParams p = loss_params(a, k.batch);
  set_normalizers(a, p, &k.batch);
  const int64_t n = k.batch.layout.rows;
  k.logps = a.required<float>("logps", n);
  k.entropies = a.array<float>("entropies", n);
  const bool reads = k.batch.has_entropy_term() || has_entropy_mask(p);
  if (reads && !k.entropies && n > 0) Arguments::fail("entropies", "a Float32Array");
  auto out = Napi::Object::New(env);
  k.grad_logps = new_array<float>(env, out, "gradLogps", n);
  if (k.batch.has_entropy_term()) k.grad_entropies = new_array<float>(env, out, "gradEntropies", n);
  std::vector<TokenRecord> records(static_cast<size_t>(n));
  k.records = records.data();
  PolicyMetrics metrics;
  Culprits culprits = culprits_of(k.batch);
  culprits.logps = k.logps, culprits.entropies = k.entropies;
  raise_fault(policy_loss(core_context(), p, k, &metrics), culprits);
  out.Set("metrics", metrics_object(env, metrics));
  return out;
}

Napi::Value PolicyLoss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return policy_loss_op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

/// With `rewards` the advantages are made here, so that JavaScript crosses the boundary once.
void advantages_from_rewards(Napi::Env env, Napi::Object arguments, Napi::Object out) {
  const Napi::Object made = compute_advantages(env, Arguments(arguments.Get("rewardArguments").As<Napi::Object>()));
  arguments.Set("advantages", made.Get("advantages"));
  for (const char* name : {"mean", "std", "zeroStd"}) out.Set(name, made.Get(name));
}

Napi::Object grpo_loss_op(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  auto out = Napi::Object::New(env);
  if (a.has("rewardArguments")) advantages_from_rewards(env, arguments, out);
  GrpoLossArgs k;
  k.batch = policy_batch(a);
  const Layout& l = k.batch.layout;
  const LossParams p = loss_params(a, k.batch);
  set_normalizers(a, p, &k.batch);
  k.logits = a.rows("logits", "rowStride", "sequenceStride", l);
  k.grad = a.rows("gradLogits", "gradRowStride", "gradSequenceStride", l);
  k.targets = a.required<int32_t>("targets", l.rows);
  k.temperature = a.number("temperature");
  k.want_entropy = a.flag("entropy");
  k.logps = new_array<float>(env, out, "logps", l.rows);
  if (k.want_entropy) k.entropies = new_array<float>(env, out, "entropies", l.rows);
  std::vector<TokenRecord> records(static_cast<size_t>(l.rows));
  k.records = records.data();
  PolicyMetrics metrics;
  Culprits culprits = culprits_of(k.batch);
  culprits.targets = k.targets, culprits.vocab = k.logits.vocab;
  raise_fault(grpo_loss(core_context(), p, k, &metrics), culprits);
  out.Set("advantages", arguments.Get("advantages"));
  out.Set("metrics", metrics_object(env, metrics));
  return out;
}

Napi::Value GrpoLoss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return grpo_loss_op(info.Env(), info[0].As<Napi::Object>()); });
}

/// copy(target, source): the yardstick of benchmarks/loss.mjs, one read and one write by the same threads.
Napi::Value Copy(const Napi::CallbackInfo& info) {
  const auto bytes = [&](int i) { return info[i].As<Napi::Uint8Array>(); };
  uint8_t* to = bytes(0).Data();
  const uint8_t* from = bytes(1).Data();
  const int64_t n = int64_t(std::min(bytes(0).ByteLength(), bytes(1).ByteLength()));
  parallel_for(core_context(), n, 1 << 20, [&](int64_t b, int64_t e) { std::memcpy(to + b, from + b, size_t(e - b)); });
  return info.Env().Undefined();
}

/// policyLossExact: policyLoss on Float64Array logps and entropies, with Float64Array results. For tests: the formulas
/// themselves, without the rounding of float32.
Napi::Object policy_loss_exact_op(Napi::Env env, const Arguments& a) {
  PolicyBatch b = policy_batch(a);
  const LossParams p = loss_params(a, b);
  set_normalizers(a, p, &b);
  const int64_t n = b.layout.rows;
  const double *logps = a.required<double>("logps", n), *entropies = a.array<double>("entropies", n);
  std::vector<TokenRecord> records(static_cast<size_t>(n));
  raise_fault(prepare_tokens(p, b, records.data()), culprits_of(b));
  for (int64_t i = 0; i < n; ++i)
    if (records[i].selected) records[i].logp = logps[i], records[i].entropy = entropies ? entropies[i] : 0.0;
  policy_steps(core_context(), p, b, records.data());
  auto out = Napi::Object::New(env);
  auto* by_logps = new_array<double>(env, out, "gradLogps", n);
  auto* by_entropies = new_array<double>(env, out, "gradEntropies", n);
  for (int64_t i = 0; i < n; ++i) by_logps[i] = records[i].slope, by_entropies[i] = records[i].entropy_slope;
  out.Set("loss", Napi::Number::New(env, collect_metrics(b.layout, records.data()).loss));
  return out;
}

Napi::Value PolicyLossExact(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return policy_loss_exact_op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

Napi::Value UseSimd(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), use_simd(info[0].ToString().Utf8Value().c_str()));
}

}  // namespace

void register_ops(Napi::Env env, Napi::Object exports) {
  exports.Set("groupAdvantages", Napi::Function::New(env, GroupAdvantages));
  exports.Set("selectiveLogp", Napi::Function::New(env, SelectiveLogp));
  exports.Set("selectiveLogpBackward", Napi::Function::New(env, SelectiveLogpBackward));
  exports.Set("policyLoss", Napi::Function::New(env, PolicyLoss));
  exports.Set("grpoLoss", Napi::Function::New(env, GrpoLoss));
  exports.Set("copy", Napi::Function::New(env, Copy));
  exports.Set("policyLossExact", Napi::Function::New(env, PolicyLossExact));
  exports.Set("useSimd", Napi::Function::New(env, UseSimd));
  exports.Set("simd",
              Napi::Function::New(env, [](const Napi::CallbackInfo& i) { return Napi::String::New(i.Env(), simd()); }));
  exports.Set("threads", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
                return Napi::Number::New(i.Env(), pool_threads());
              }));
}

}  // namespace fg
