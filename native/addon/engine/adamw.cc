// The optimizer's kernels on typed arrays, for tests: one tensor, updated in place.
#include "addon/engine/adamw.h"

#include "addon/engine/convert.h"
#include "torch/cpu_context.h"

namespace fg {
namespace {

float* floats(const Napi::Object& o, const char* key, int64_t size) {
  const Napi::Value v = o.Get(key);
  if (v.IsUndefined()) return nullptr;
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array ||
      v.As<Napi::TypedArray>().ElementLength() != static_cast<size_t>(size))
    throw bad_argument(key, "a Float32Array as long as the parameter");
  return v.As<Napi::Float32Array>().Data();
}

Napi::Value adamw_step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "arguments");
    const Napi::Value parameter = o.Get("parameter");
    if (!parameter.IsTypedArray()) throw bad_argument("parameter", "a typed array");
    const auto array = parameter.As<Napi::TypedArray>();
    const auto size = static_cast<int64_t>(array.ElementLength());
    kernels::AdamWTensor t{};
    t.parameter = static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    t.master = floats(o, "master", size);
    t.gradient = floats(o, "gradient", size);
    t.moment1 = floats(o, "moment1", size);
    t.moment2 = floats(o, "moment2", size);
    t.size = size;
    t.decay = true;
    const bool bf16 = array.TypedArrayType() == napi_uint16_array;
    if (!t.gradient || !t.moment1 || !t.moment2 || bf16 != (t.master != nullptr))
      throw bad_argument("arguments", "gradient, moments, and a master for bfloat16 parameters");
    const auto number = [&](const char* key) { return static_cast<float>(number_at(o, key)); };
    const double step = number_at(o, "step");
    const AdamWStep s{number("learningRate"),
                      number("beta1"),
                      number("beta2"),
                      number("epsilon"),
                      number("weightDecay"),
                      static_cast<float>(1 - std::pow(number_at(o, "beta1"), step)),
                      static_cast<float>(1 - std::pow(number_at(o, "beta2"), step)),
                      number("gradientScale")};
    std::vector<double> workspace(static_cast<size_t>(kernels::gradient_norm_workspace(&t, 1)));
    const double norm = kernels::gradient_norm(cpu_context(), &t, 1, workspace.data());
    kernels::adamw(cpu_context(), &t, 1, s);
    return Napi::Number::New(info.Env(), norm);
  });
}

}  // namespace

void register_adamw(Napi::Env env, Napi::Object exports) {
  exports.Set("adamwStep", Napi::Function::New(env, adamw_step));
}

}  // namespace fg
