// simulator.node: the core addon's ops, run by the CUDA kernels on the simulated device. For tests.
#include <cmath>
#include <cstring>

#include "addon/common/loss_arguments.h"
#include "kernels/cuda/ops.h"
#include "simulator/addon_optimizer.h"
#include "simulator/device_arrays.h"
#include "simulator/exports.h"

namespace fg::cuda {
/// Overrides the choice of kernels, once there is a choice.
void force_variant(const char* name) __attribute__((weak));
}  // namespace fg::cuda

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

struct Advantages {
  GroupAdvantagesArgs args;
  const double* rewards;  // on the host
  void raise(const Status& s) const {
    if (s.fault == Fault::reward && s.row >= 0 && s.row < args.count && !std::isfinite(rewards[s.row]))
      not_finite("rewards", s.row, rewards[s.row]);
  }
};

AdvantageOptions advantage_options(const Arguments& a) {
  AdvantageOptions o;
  o.scale = RewardScale(a.integer("scaleRewards"));
  o.baseline = Baseline(a.integer("baseline"));
  o.transform = RewardTransform(a.integer("transform"));
  o.ddof = int(a.integer("ddof"));
  o.eps = a.number("eps");
  o.exclude_non_finite = a.flag("excludeNonFinite");
  return o;
}

Advantages advantages_arguments(Napi::Env env, const Arguments& a, Napi::Object out, DeviceArrays* d) {
  Advantages made;
  GroupAdvantagesArgs& k = made.args;
  k.count = a.integer("count"), k.groups = a.integer("groups");
  made.rewards = a.required<double>("rewards", k.count);
  const int32_t* offsets = a.required<int32_t>("groupOffsets", k.groups + 1);
  bool good = offsets[0] == 0 && offsets[k.groups] == k.count;
  for (int64_t g = 0; g < k.groups; ++g) good = good && offsets[g] <= offsets[g + 1];
  if (!good) Arguments::fail("groupOffsets", "0 first, then non-decreasing, B last");
  k.rewards = d->in(made.rewards, k.count);
  k.group_offsets = d->in(offsets, k.groups + 1);
  k.options = advantage_options(a);
  k.advantages = d->out(new_array<float>(env, out, "advantages", k.count), k.count);
  k.mean = d->out(new_array<float>(env, out, "mean", k.groups), k.groups);
  k.std = d->out(new_array<float>(env, out, "std", k.groups), k.groups);
  k.zero_std = d->out(new_array<uint8_t>(env, out, "zeroStd", k.groups), k.groups);
  return made;
}

Napi::Value GroupAdvantages(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  auto out = Napi::Object::New(env);
  Run run(a.integer("count"));
  const Advantages made = advantages_arguments(env, a, out, &run.arrays);
  const Outcome o = run.finish(cuda::group_advantages(kContext, made.args, run.workspace, run.outcome));
  made.raise(o.status);
  raise_fault(o.status, {});
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

/// The advantages of this call: made by the op itself, or given.
struct MadeHere {
  bool yes = false;
  Advantages made;
};
MadeHere rewards_of(Napi::Env env, Napi::Object arguments, Napi::Object out, DeviceArrays* d) {
  MadeHere here;
  here.yes = !arguments.Get("rewardArguments").IsUndefined();
  if (!here.yes) return here;
  const Arguments a(arguments.Get("rewardArguments").As<Napi::Object>());
  here.made = advantages_arguments(env, a, out, d);
  arguments.Set("advantages", out.Get("advantages"));
  return here;
}

Napi::Value GrpoLoss(Napi::Env env, Napi::Object arguments) {
  const Arguments a(arguments);
  auto out = Napi::Object::New(env);
  Run run(a.integer("rows"));
  DeviceArrays& d = run.arrays;
  const MadeHere rewards = rewards_of(env, arguments, out, &d);
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
  const Outcome o = run.finish(
      cuda::grpo_loss(kContext, p, k, rewards.yes ? &rewards.made.args : nullptr, run.workspace, run.outcome));
  if (rewards.yes) rewards.made.raise(o.status);
  raise_fault(o.status, {targets, k.logits.vocab, host.old_logps, host.ref_logps});
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
  static std::string variant;  // kept: the callee may hold on to the text
  variant = o.Get("variant").IsString() ? o.Get("variant").ToString().Utf8Value() : "";
  if (cuda::force_variant) cuda::force_variant(variant.empty() ? nullptr : variant.c_str());
  return Napi::Boolean::New(env, variant.empty() || cuda::force_variant != nullptr);
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
  registerOptimizerAndSampling(env, exports);
  for (const auto fill : sim::Exports::all()) fill(env, exports);
  return exports;
}

}  // namespace
}  // namespace fg

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return fg::Init(env, exports); }
NODE_API_MODULE(simulator, Init)
