// simulator.node: the core addon's ops, run by the CUDA kernels on the simulated device. For tests.
#include <cmath>
#include <cstring>

#include "addon/common/loss_arguments.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/table.h"
#include "simulator/device_arrays.h"
#include "simulator/exports.h"

namespace fg {

using namespace kernels;
using cuda::GroupAdvantagesArgs;
using cuda::Outcome;
using sim::DeviceArrays;

namespace {

const Context kContext{nullptr, nullptr};

void check(const cuda::Launch& l) {
  if (l.ok()) return;
  throw std::runtime_error(std::string("launch failed: ") + (l.what ? l.what : "?") + " (" + (l.file ? l.file : "?") +
                           ":" + std::to_string(l.line) + "), code " + std::to_string(l.code));
}

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
    if (!sim::initialised(&outcome->status, sizeof(Status::fault)))
      throw sim::Violation("output not written", "the outcome was not written");
    sim::copy_out(&o, outcome, sizeof o);
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
  raise_fault(run.finish(cuda::group_advantages(kContext, k, run.workspace, run.outcome)).status, culprits);
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
  raise_fault(run.finish(cuda::selective_logp(kContext, k, run.workspace, run.outcome)).status,
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
  const Outcome o = run.finish(cuda::selective_logp_backward(kContext, k, run.workspace, run.outcome));
  raise_fault(o.status, {targets, k.logits.vocab});
  return env.Undefined();
}

void to_device(DeviceArrays* d, PolicyBatch* b) {
  const int64_t n = b->layout.rows;
  b->old_logps = d->in(b->old_logps, n);
  b->ref_logps = d->in(b->ref_logps, n);
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
  if (k.batch.entropy_weight != 0 && !entropies && n > 0) Arguments::fail("entropies", "a Float32Array");
  const PolicyBatch host = k.batch;
  auto out = Napi::Object::New(env);
  Run run(n);
  DeviceArrays& d = run.arrays;
  to_device(&d, &k.batch);
  k.logps = d.in(logps, n);
  k.entropies = d.in(entropies, n);
  k.grad_logps = d.out(new_array<float>(env, out, "gradLogps", n), n);
  if (host.entropy_weight != 0) k.grad_entropies = d.out(new_array<float>(env, out, "gradEntropies", n), n);
  const Outcome o = run.finish(cuda::policy_loss(kContext, p, k, run.workspace, run.outcome));
  raise_fault(o.status, {nullptr, 0, host.old_logps, host.ref_logps, logps});
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
  const Outcome o =
      run.finish(cuda::grpo_loss(kContext, p, k, fused ? &made : nullptr, run.workspace, run.outcome));
  raise_fault(o.status, {targets, k.logits.vocab, host.old_logps, host.ref_logps, nullptr, rewards.rewards});
  out.Set("advantages", arguments.Get("advantages"));
  out.Set("metrics", metrics_object(env, o.metrics));
  return out;
}

template <Napi::Value (*op)(Napi::Env, Napi::Object)>
Napi::Value wrapped(const Napi::CallbackInfo& info) {
  return sim::simulated(info.Env(), [&] { return op(info.Env(), info[0].As<Napi::Object>()); });
}

/// configure({ seed, arch, multiprocessors?, variant? })
Napi::Value Configure(Napi::Env env, Napi::Object o) {
  const auto number = [&](const char* name) {
    return o.Get(name).IsNumber() ? o.Get(name).ToNumber().Int64Value() : 0;
  };
  sim::set_seed(uint64_t(number("seed")));
  if (o.Get("arch").IsString())
    sim::set_device(sim::preset(o.Get("arch").ToString().Utf8Value(), int(number("multiprocessors"))));
  cuda::force_variant(o.Get("variant").IsString() ? o.Get("variant").ToString().Utf8Value().c_str() : nullptr);
  return env.Undefined();
}

Napi::Object record_object(Napi::Env env, const sim::LaunchRecord& r) {
  auto o = Napi::Object::New(env);
  const auto set = [&](const char* name, double v) { o.Set(name, Napi::Number::New(env, v)); };
  o.Set("kernel", r.kernel);
  set("blocks", double(r.shape.blocks)), set("threads", r.shape.threads), set("cluster", r.shape.cluster);
  set("sharedBytes", double(r.shape.shared)), set("staticSharedBytes", double(r.static_shared));
  set("readBytes", double(r.read_bytes)), set("rereadBytes", double(r.reread_bytes));
  set("writtenBytes", double(r.written_bytes)), set("wideBytes", double(r.wide_bytes));
  set("bulkBytes", double(r.bulk_bytes)), set("accesses", double(r.accesses)), set("atomics", double(r.atomics));
  o.Set("schedule", std::to_string(r.schedule));
  return o;
}

Napi::Value LastLaunches(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  for (const auto& r : sim::take_launches()) list[list.Length()] = record_object(info.Env(), r);
  return list;
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
  add("lastLaunches", LastLaunches);
  add("setSeed", [](const Napi::CallbackInfo& i) { sim::set_seed(uint64_t(i[0].ToNumber().Int64Value())); });
  add("simd", [](const Napi::CallbackInfo& i) { return Napi::String::New(i.Env(), "cuda-simulated"); });
  add("threads", [](const Napi::CallbackInfo& i) { return Napi::Number::New(i.Env(), 1); });
  add("useSimd", [](const Napi::CallbackInfo& i) {
    return Napi::Boolean::New(i.Env(), i[0].ToString().Utf8Value() == "cuda-simulated");
  });
  for (const auto fill : sim::Exports::all()) fill(env, exports);
  return exports;
}

}  // namespace
}  // namespace fg

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return fg::Init(env, exports); }
NODE_API_MODULE(simulator, Init)
