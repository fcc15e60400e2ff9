// The functional ops on tensors: arguments are read and copied on the event loop, the work runs on the ops' thread.
#include <cstring>
#include <optional>

#include "addon/common/loss_arguments.h"
#include "addon/engine/convert.h"
#include "addon/engine/host_arrays.h"
#include "torch/dtype.h"
#include "torch/tensor_ops_cuda.h"

namespace fg {
namespace {

Napi::Object to_object(Napi::Env env, const TensorOutcome& r) {
  auto out = Napi::Object::New(env);
  if (r.logps.defined()) out.Set("logps", to_array(env, r.logps));
  if (r.lse.defined()) out.Set("lse", to_array(env, r.lse));
  if (r.entropies.defined()) out.Set("entropies", to_array(env, r.entropies));
  return out;
}

}  // namespace

Napi::Value TensorOps::selective_logp(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "arguments");
    const Arguments a(o);
    HostArrays h;
    kernels::SelectiveLogpArgs k;
    k.layout = a.layout();
    k.logits = h.matrix(a, o, "logits", "rowStride", "sequenceStride", k.layout);
    k.targets = a.required<int32_t>("targets", k.layout.rows);
    k.temperature = a.number("temperature");
    h.keep(&k.layout), h.keep(&k.targets, k.layout.rows);
    return submit(info, [h, k, entropy = a.flag("entropy")] {
      const TensorOutcome r = tensor_selective_logp(k, *h.device, entropy);
      return [h, k, r](Napi::Env env) -> Napi::Value {
        raise_fault(r.status, {k.targets, k.logits.vocab});
        return to_object(env, r);
      };
    });
  });
}

Napi::Value TensorOps::selective_logp_backward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "arguments");
    const Arguments a(o);
    HostArrays h;
    kernels::SelectiveLogpBackwardArgs k;
    k.layout = a.layout();
    const int64_t n = k.layout.rows;
    k.logits = h.matrix(a, o, "logits", "rowStride", "sequenceStride", k.layout);
    k.grad = h.matrix(a, o, "gradLogits", "gradRowStride", "gradSequenceStride", k.layout);
    k.targets = a.required<int32_t>("targets", n);
    k.temperature = a.number("temperature");
    k.grad_logps = a.required<float>("gradLogps", n);
    k.grad_entropies = a.array<float>("gradEntropies", n);
    h.keep(&k.layout), h.keep(&k.targets, n), h.keep(&k.grad_logps, n), h.keep(&k.grad_entropies, n);
    return submit(info, [h, k] {
      const TensorOutcome r = tensor_selective_logp_backward(k, *h.device);
      return [h, k, r](Napi::Env env) -> Napi::Value {
        raise_fault(r.status, {k.targets, k.logits.vocab});
        return env.Undefined();
      };
    });
  });
}

Napi::Value TensorOps::grpo_loss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "arguments");
    const Arguments a(o);
    HostArrays h;
    kernels::GrpoLossArgs k;
    k.batch = policy_batch(a);
    Layout& l = k.batch.layout;
    const LossParams p = loss_params(a, k.batch);
    set_normalizers(a, p, &k.batch);
    k.logits = h.matrix(a, o, "logits", "rowStride", "sequenceStride", l);
    k.grad = h.matrix(a, o, "gradLogits", "gradRowStride", "gradSequenceStride", l);
    k.targets = a.required<int32_t>("targets", l.rows);
    k.temperature = a.number("temperature");
    k.want_entropy = a.flag("entropy");
    h.keep(&k.targets, l.rows), h.keep(&k.batch);
    return submit(info, [h, k, p] {
      const TensorOutcome r = tensor_grpo_loss(k, p, *h.device);
      return [h, k, r](Napi::Env env) -> Napi::Value {
        Culprits culprits = culprits_of(k.batch);
        culprits.targets = k.targets, culprits.vocab = k.logits.vocab;
        raise_fault(r.status, culprits);
        Napi::Object out = to_object(env, r);
        out.Set("metrics", metrics_object(env, r.metrics));
        return out;
      };
    });
  });
}

}  // namespace fg
