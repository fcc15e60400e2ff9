// unfusedGrpoLoss: the same arguments and results as the core's grpoLoss, by libtorch and autograd. Tests and
// benchmarks.
#include "torch/reference.h"
#include "torch/reference_values.h"

#include <chrono>
#include <vector>

#include "addon/common/value_arguments.h"
#include "addon/engine/reference.h"
#include "torch/dtype.h"

namespace fg {
namespace {

at::Tensor matrix(const Rows& r, int64_t rows) {
  if (r.sequence_stride != 0) Arguments::fail("sequenceStride", "nothing (the reference takes rows one after another)");
  return at::from_blob(r.data, {rows, r.vocab}, {r.row_stride, 1}, at::TensorOptions(scalar_type(r.dtype)));
}

Napi::Object run(Napi::Env env, const Arguments& a) {
  kernels::PolicyBatch b = policy_batch(a);
  const LossParams p = loss_params(a, b);
  set_normalizers(a, p, &b);
  const int64_t n = b.layout.rows;
  const int32_t* targets = a.required<int32_t>("targets", n);
  const Rows logits = a.rows("logits", "rowStride", "sequenceStride", b.layout);
  const Rows grad = a.rows("gradLogits", "gradRowStride", "gradSequenceStride", b.layout);
  std::vector<kernels::TokenRecord> records(static_cast<size_t>(n));
  at::Tensor leaf = matrix(logits, n).detach().requires_grad_(true);

  const auto start = std::chrono::steady_clock::now();
  UnfusedLoss u = unfused_grpo_loss(leaf, targets, a.number("temperature"), p, b, a.flag("entropy"), records.data());
  Culprits culprits = culprits_of(b);
  culprits.targets = targets, culprits.vocab = logits.vocab;
  raise_fault(u.status, culprits);
  u.loss.backward();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;

  matrix(grad, n).copy_(leaf.grad());
  auto out = Napi::Object::New(env);
  std::memcpy(new_array<float>(env, out, "logps", n), u.logps.data_ptr<float>(), size_t(n) * sizeof(float));
  if (u.entropies.defined())
    std::memcpy(new_array<float>(env, out, "entropies", n), u.entropies.data_ptr<float>(), size_t(n) * sizeof(float));
  out.Set("metrics", metrics_object(env, u.metrics));
  out.Set("milliseconds", Napi::Number::New(env, took.count()));
  return out;
}

Napi::Value double_array(Napi::Env env, const at::Tensor& t) {
  auto array = Napi::Float64Array::New(env, static_cast<size_t>(t.numel()));
  if (t.numel() > 0) std::memcpy(array.Data(), t.const_data_ptr(), t.nbytes());
  return array;
}

Napi::Object value_loss_twin(Napi::Env env, const Arguments& a) {
  const UnfusedValueLoss r = unfused_value_loss(value_loss_arguments(a));
  auto out = Napi::Object::New(env);
  out.Set("loss", Napi::Number::New(env, r.loss));
  out.Set("gradValues", double_array(env, r.grad_values));
  return out;
}

Napi::Object preference_loss_twin(Napi::Env env, const Arguments& a) {
  const UnfusedPreferenceLoss r = unfused_preference_loss(preference_loss_arguments(a));
  auto out = Napi::Object::New(env);
  out.Set("loss", Napi::Number::New(env, r.loss));
  out.Set("gradChosen", double_array(env, r.grad_chosen));
  out.Set("gradRejected", double_array(env, r.grad_rejected));
  return out;
}

template <Napi::Object (*op)(Napi::Env, const Arguments&)>
Napi::Value guarded_twin(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return op(info.Env(), Arguments(info[0].As<Napi::Object>())); });
}

}  // namespace

void register_reference(Napi::Env env, Napi::Object exports) {
  exports.Set("unfusedValueLoss", Napi::Function::New(env, guarded_twin<value_loss_twin>));
  exports.Set("unfusedPreferenceLoss", Napi::Function::New(env, guarded_twin<preference_loss_twin>));
  exports.Set("unfusedGrpoLoss", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                return guarded(info.Env(), [&] { return run(info.Env(), Arguments(info[0].As<Napi::Object>())); });
              }));
}

}  // namespace fg
