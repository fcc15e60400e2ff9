// A test addon: the core addon's ops, run by the CUDA kernels on whatever device backends/device.h is linked with.
#include "kernels/cuda/ops.h"
#include "addon/common/loss_arguments.h"
#include "backends/device_arrays.h"
#include "backends/exports.h"
#include "kernels/cuda/table.h"

namespace fg {

using namespace kernels;
using backend::check;
using backend::context;
using backend::DeviceArrays;
using cuda::GroupAdvantagesArgs;
using cuda::Outcome;

namespace {

size_t byte_length(const Arguments& a, Napi::Object o, const char* name) {
  return a.has(name) ? o.Get(name).As<Napi::TypedArray>().ByteLength() : 0;
}

void to_device(DeviceArrays* d, Layout* l) {
  l->offsets = d->in(l->offsets, l->sequences + 1);
  l->mask = d->in(l->mask, l->rows);
  l->truncated = d->in(l->truncated, l->sequences);
}

/// What the op found, after its launches.
struct Run {
  DeviceArrays arrays;
  void* workspace;
  Outcome* outcome;
  explicit Run(int64_t rows)
      : workspace(arrays.scratch(cuda::workspace_bytes(rows))),
        outcome(static_cast<Outcome*>(arrays.scratch(sizeof(Outcome)))) {}
  Outcome finish(const cuda::Launch& l) {
    check(l);
    Outcome o;
    if (!backend::written(&outcome->status, sizeof(Status::fault), sizeof(Status::fault)))
      throw backend::Violation("output not written", "the outcome was not written");
    backend::copy_out(&o, outcome, sizeof o);
    arrays.back(o.status.ok());
    return o;
  }
};

/// Rewards on the device, and what is made of them in `out`.
GroupAdvantagesArgs advantages_arguments(Napi::Env env, const RewardArguments& r, Napi::Object out, DeviceArrays* d) {
  GroupAdvantagesArgs k;
  k.count = r.count, k.groups = r.groups, k.options = r.options;
  k.rewards = d->in(r.rewards, k.count);
  k.group_offsets = d->in(r.group_offsets, k.groups + 1);
  k.advantages = d->out(new_array<float>(env, out, "advantages", k.count), k.count);
  k.mean = d->out(new_array<float>(env, out, "mean", k.groups), k.groups);
  k.std = d->out(new_array<float>(env, out, "std", k.groups), k.groups);
  k.zero_std = d->out(new_array<uint8_t>(env, out, "zeroStd", k.groups), k.groups);
  return k;
}

Napi::Value GroupAdvantages(Napi::Env env, Napi::Object arguments) {
  const RewardArguments r = reward_arguments(Arguments(arguments));
  auto out = Napi::Object::New(env);
  Run run(r.count);
  const GroupAdvantagesArgs k = advantages_arguments(env, r, out, &run.arrays);
  Culprits culprits;
  culprits.rewards = r.rewards;
  raise_fault(run.finish(cuda::group_advantages(context(), k, run.workspace, run.outcome)).status, culprits);
  return out;
}

/// The whole typed array goes to the device: what lies between the rows must stay as it is.
void rows_to_device(DeviceArrays* d, Rows* r, size_t bytes, bool written) {
  r->data = written ? d->in_out(r->data, bytes) : d->twin(r->data, bytes, true);
}

Napi::Value SelectiveLogp(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  SelectiveLogpArgs k;
  k.layout = a.layout();
  k.logits = a.rows("logits", "rowStride", "sequenceStride", k.layout);
  k.temperature = a.number("temperature");
  const int64_t n = k.layout.rows;
  const int32_t* targets = a.required<int32_t>("targets", n);
  auto out = Napi::Object::New(env);
  Run run(n);
  DeviceArrays& d = run.arrays;
  to_device(&d, &k.layout);
  rows_to_device(&d, &k.logits, byte_length(a, arguments, "logits"), false);
  k.targets = d.in(targets, n);
  k.logps = d.out(new_array<float>(env, out, "logps", n), n);
  k.lse = d.out(new_array<float>(env, out, "lse", n), n);
  if (a.flag("entropy")) k.entropies = d.out(new_array<float>(env, out, "entropies", n), n);
  raise_fault(run.finish(cuda::selective_logp(context(), k, run.workspace, run.outcome)).status,
              {targets, k.logits.vocab});
  return out;
}

Napi::Value SelectiveLogpBackward(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  SelectiveLogpBackwardArgs k;
  k.layout = a.layout();
  k.logits = a.rows("logits", "rowStride", "sequenceStride", k.layout);
  k.grad = a.rows("gradLogits", "gradRowStride", "gradSequenceStride", k.layout);
  k.temperature = a.number("temperature");
  const int64_t n = k.layout.rows;
  const int32_t* targets = a.required<int32_t>("targets", n);
  Run run(n);
  DeviceArrays& d = run.arrays;
  to_device(&d, &k.layout);
  rows_to_device(&d, &k.logits, byte_length(a, arguments, "logits"), false);
  rows_to_device(&d, &k.grad, byte_length(a, arguments, "gradLogits"), true);
  k.targets = d.in(targets, n);
  k.grad_logps = d.in(a.required<float>("gradLogps", n), n);
  k.grad_entropies = d.in(a.array<float>("gradEntropies", n), n);
  const Outcome o = run.finish(cuda::selective_logp_backward(context(), k, run.workspace, run.outcome));
  raise_fault(o.status, {targets, k.logits.vocab});
  return env.Undefined();
}

void to_device(DeviceArrays* d, PolicyBatch* b) {
  const int64_t n = b->layout.rows;
  b->old_logps = d->in(b->old_logps, n);
  b->ref_logps = d->in(b->ref_logps, n);
  b->sampler_logps = d->in(b->sampler_logps, n);
  if (b->advantages) b->advantages = d->in(b->advantages, b->advantages_per_token ? n : b->layout.sequences);
  to_device(d, &b->layout);
}

Napi::Value PolicyLoss(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  PolicyLossArgs k;
  k.batch = policy_batch(a);
  const LossParams p = loss_params(a, k.batch);
  set_normalizers(a, p, &k.batch);
  const int64_t n = k.batch.layout.rows;
  const float* logps = a.required<float>("logps", n);
  const float* entropies = a.array<float>("entropies", n);
  const bool reads = k.batch.has_entropy_term() || has_entropy_mask(p);
  if (reads && !entropies && n > 0) Arguments::fail("entropies", "a Float32Array");
  const PolicyBatch host = k.batch;
  auto out = Napi::Object::New(env);
  Run run(n);
  DeviceArrays& d = run.arrays;
  to_device(&d, &k.batch);
  k.logps = d.in(logps, n);
  k.entropies = d.in(entropies, n);
  k.grad_logps = d.out(new_array<float>(env, out, "gradLogps", n), n);
  if (host.has_entropy_term()) k.grad_entropies = d.out(new_array<float>(env, out, "gradEntropies", n), n);
  const Outcome o = run.finish(cuda::policy_loss(context(), p, k, run.workspace, run.outcome));
  Culprits culprits = culprits_of(host);
  culprits.logps = logps, culprits.entropies = entropies;
  raise_fault(o.status, culprits);
  out.Set("metrics", metrics_object(env, o.metrics));
  return out;
}

Napi::Value GrpoLoss(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  auto out = Napi::Object::New(env);
  Run run(a.integer("rows"));
  DeviceArrays& d = run.arrays;
  const bool fused = a.has("rewardArguments");
  RewardArguments rewards;
  GroupAdvantagesArgs made;
  if (fused) {
    rewards = reward_arguments(Arguments(arguments.Get("rewardArguments").As<Napi::Object>()));
    made = advantages_arguments(env, rewards, out, &d);
    arguments.Set("advantages", out.Get("advantages"));
  }
  GrpoLossArgs k;
  k.batch = policy_batch(a);
  const LossParams p = loss_params(a, k.batch);
  set_normalizers(a, p, &k.batch);
  const PolicyBatch host = k.batch;
  const int64_t n = host.layout.rows;
  k.logits = a.rows("logits", "rowStride", "sequenceStride", host.layout);
  k.grad = a.rows("gradLogits", "gradRowStride", "gradSequenceStride", host.layout);
  const int32_t* targets = a.required<int32_t>("targets", n);
  k.temperature = a.number("temperature");
  k.want_entropy = a.flag("entropy");
  to_device(&d, &k.batch);
  rows_to_device(&d, &k.logits, byte_length(a, arguments, "logits"), false);
  rows_to_device(&d, &k.grad, byte_length(a, arguments, "gradLogits"), true);
  k.targets = d.in(targets, n);
  k.logps = d.out(new_array<float>(env, out, "logps", n), n);
  if (k.want_entropy) k.entropies = d.out(new_array<float>(env, out, "entropies", n), n);
  const Outcome o = run.finish(cuda::grpo_loss(context(), p, k, fused ? &made : nullptr, run.workspace, run.outcome));
  Culprits culprits = culprits_of(host);
  culprits.targets = targets, culprits.vocab = k.logits.vocab;
  culprits.rewards = rewards.rewards;
  raise_fault(o.status, culprits);
  out.Set("advantages", arguments.Get("advantages"));
  out.Set("metrics", metrics_object(env, o.metrics));
  return out;
}

template <Napi::Value (*op)(Napi::Env, Napi::Object)>
Napi::Value wrapped(const Napi::CallbackInfo& info) {
  return backend::on_device(info.Env(), [&] { return op(info.Env(), info[0].As<Napi::Object>()); });
}

/// configure({ seed?, arch?, multiprocessors?, variant? })
Napi::Value Configure(Napi::Env env, Napi::Object o) {
  const auto text = [&](const char* name) { return o.Get(name).IsString() ? o.Get(name).ToString().Utf8Value() : ""; };
  const auto number = [&](const char* name) {
    return o.Get(name).IsNumber() ? o.Get(name).ToNumber().Int64Value() : 0;
  };
  backend::configure({uint64_t(number("seed")), text("arch"), int(number("multiprocessors"))});
  cuda::force_variant(text("variant").c_str());
  return env.Undefined();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  exports.Set("version", Napi::String::New(env, "0.1.0"));
  add("groupAdvantages", wrapped<GroupAdvantages>);
  add("selectiveLogp", wrapped<SelectiveLogp>);
  add("selectiveLogpBackward", wrapped<SelectiveLogpBackward>);
  add("policyLoss", wrapped<PolicyLoss>);
  add("grpoLoss", wrapped<GrpoLoss>);
  add("configure", wrapped<Configure>);
  add("simd", [](const Napi::CallbackInfo& i) { return Napi::String::New(i.Env(), backend::kName); });
  add("threads", [](const Napi::CallbackInfo& i) { return Napi::Number::New(i.Env(), 1); });
  add("useSimd", [](const Napi::CallbackInfo& i) {
    return Napi::Boolean::New(i.Env(), i[0].ToString().Utf8Value() == backend::kName);
  });
  for (const auto fill : backend::Exports::all()) fill(env, exports);
  return exports;
}

}  // namespace
}  // namespace fg

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return fg::Init(env, exports); }
NODE_API_MODULE(backend, Init)
