// linearGrpoLoss for JavaScript: hidden states and a head in place of logits.
#include "torch/linear_loss.h"
#include "addon/engine/host_arrays.h"

namespace fg {
namespace {

at::Tensor matrix(const Napi::Object& o, const char* name, int64_t rows, int64_t columns) {
  const at::Tensor t = TensorHandle::tensor_of(o.Get(name), name);
  if (t.dim() != 2 || t.size(0) != rows || t.size(1) != columns)
    Arguments::fail(name, ("a Tensor of " + std::to_string(rows) + " x " + std::to_string(columns)).c_str());
  return t;
}

void read_matrices(const Napi::Object& o, int64_t rows, LinearLossArgs* k) {
  k->hidden = TensorHandle::tensor_of(o.Get("hidden"), "hidden");
  k->weight = TensorHandle::tensor_of(o.Get("weight"), "weight");
  if (k->hidden.dim() != 2 || k->weight.dim() != 2) Arguments::fail("hidden", "a Tensor of two dimensions, as weight");
  const int64_t width = k->hidden.size(1);
  k->hidden = matrix(o, "hidden", rows, width);
  k->weight = matrix(o, "weight", k->weight.size(0), width);
  k->grad_hidden = matrix(o, "gradHidden", rows, width);
  if (!o.Get("gradWeight").IsUndefined()) k->grad_weight = matrix(o, "gradWeight", k->weight.size(0), width);
  for (const at::Tensor& t : {k->weight, k->grad_hidden})
    if (t.scalar_type() != k->hidden.scalar_type() || t.device() != k->hidden.device())
      Arguments::fail("weight", "a Tensor of the dtype and device of hidden");
  if (k->grad_weight.defined() &&
      (k->grad_weight.scalar_type() != at::kFloat || k->grad_weight.device() != k->hidden.device()))
    Arguments::fail("gradWeight", "a float32 Tensor on the device of hidden");
}

}  // namespace

Napi::Value TensorOps::linear_grpo_loss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = info[0].As<Napi::Object>();
    const Arguments a(o);
    HostArrays h;
    LinearLossArgs k;
    k.batch = policy_batch(a);
    const int64_t rows = k.batch.layout.rows;
    const LossParams p = loss_params(a, k.batch);
    set_normalizers(a, p, &k.batch);
    read_matrices(o, rows, &k);
    k.targets = a.required<int32_t>("targets", rows);
    k.temperature = a.number("temperature");
    k.want_entropy = a.flag("entropy"), k.skip_zero_advantages = a.flag("skipZeroAdvantages");
    k.workspace_bytes = a.integer("workspaceBytes");
    h.keep(&k.targets, rows), h.keep(&k.batch);
    return submit(info, [h, k, p] {
      const LinearLossOutcome r = fg::linear_grpo_loss(k, p);
      return [h, k, r](Napi::Env env) -> Napi::Value {
        Culprits culprits = culprits_of(k.batch);
        culprits.targets = k.targets, culprits.vocab = k.weight.size(0);
        raise_fault(r.status, culprits);
        auto out = Napi::Object::New(env);
        out.Set("logps", to_array(env, r.logps));
        if (r.entropies.defined()) out.Set("entropies", to_array(env, r.entropies));
        out.Set("metrics", metrics_object(env, r.metrics));
        return out;
      };
    });
  });
}

/// linearProducts({ hidden, weight, gradHidden, gradWeight, workspaceBytes }): for benchmarks.
Napi::Value TensorOps::linear_products(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = info[0].As<Napi::Object>();
    LinearLossArgs k;
    read_matrices(o, TensorHandle::tensor_of(o.Get("hidden"), "hidden").size(0), &k);
    k.workspace_bytes = Arguments(o).integer("workspaceBytes");
    return submit(info, [k] {
      fg::linear_products(k);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

}  // namespace fg
