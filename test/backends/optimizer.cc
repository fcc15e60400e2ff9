// adamw() and sample() of a test addon: the kernels of native/kernels/cuda on typed arrays.
#include <string>
#include <vector>

#include "addon/common/arguments.h"
#include "backends/device_arrays.h"
#include "backends/exports.h"
#include "kernels/cuda/adamw.h"
#include "kernels/cuda/sampling.h"

namespace {

using fg::Arguments;
using fg::backend::check;
using fg::backend::DeviceArrays;
using fg::kernels::AdamWTensor;

/// A typed array that the kernels may change.
template <class T>
T* changing(DeviceArrays& device, T* host, int64_t count) {
  return static_cast<T*>(device.in_out(host, sizeof(T) * size_t(count)));
}

template <class T>
T fetch(const T* device) {
  T value;
  fg::backend::copy_out(&value, device, sizeof value);
  return value;
}

AdamWTensor tensor_of(const Arguments& a, DeviceArrays& device) {
  AdamWTensor t{};
  t.size = a.integer("size");
  if (a.has("master")) {
    t.parameter = changing(device, a.required<uint16_t>("parameter", t.size), t.size);
    t.master = changing(device, a.required<float>("master", t.size), t.size);
  } else {
    t.parameter = changing(device, a.required<float>("parameter", t.size), t.size);
  }
  t.gradient = changing(device, a.array<float>("gradient", t.size), t.size);
  t.moment1 = changing(device, a.required<float>("moment1", t.size), t.size);
  t.moment2 = changing(device, a.required<float>("moment2", t.size), t.size);
  t.decay = a.flag("decay");
  return t;
}

fg::AdamWStep step_of(const Arguments& a) {
  const auto number = [&](const char* key) { return float(a.number(key)); };
  const double t = a.number("step");
  return {number("learningRate"),
          number("beta1"),
          number("beta2"),
          number("epsilon"),
          number("weightDecay"),
          float(1 - std::pow(a.number("beta1"), t)),
          float(1 - std::pow(a.number("beta2"), t)),
          number("gradientScale")};
}

/// { tensors: [...], maxNorm, useNorm, step, ... } -> { norm, scale, skip, chunks }
Napi::Value adamw(const Napi::CallbackInfo& info) {
  return fg::backend::on_device(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = info[0].As<Napi::Object>();
    const Arguments a(object);
    const auto list = object.Get("tensors").As<Napi::Array>();
    DeviceArrays device;
    std::vector<AdamWTensor> tensors;
    for (uint32_t i = 0; i < list.Length(); ++i)
      tensors.push_back(tensor_of(Arguments(list.Get(i).As<Napi::Object>()), device));
    const auto count = int64_t(tensors.size());
    std::vector<int64_t> first_chunk(tensors.size() + 1);
    fg::cuda::OptimizerTable table;
    table.chunks = fg::cuda::optimizer_chunks(tensors.data(), count, first_chunk.data());
    table.count = count;
    table.tensors = device.in(tensors.data(), count);
    table.first_chunk = device.in(first_chunk.data(), count + 1);
    auto* norm = static_cast<fg::cuda::GradientNorm*>(device.scratch(sizeof(fg::cuda::GradientNorm)));
    const fg::Context context = fg::backend::context();
    check(fg::cuda::gradient_norm(context, {table, a.number("maxNorm"), static_cast<double*>(device.scratch(sizeof(double) * size_t(table.chunks))), norm}));
    check(fg::cuda::adamw(context, {table, step_of(a), a.flag("useNorm") ? norm : nullptr}));
    device.back(false);
    const auto found = fetch(norm);
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("norm", found.norm);
    out.Set("scale", found.scale);
    out.Set("skip", double(found.skip));
    out.Set("chunks", double(table.chunks));
    return out;
  });
}

fg::SampleParams params_of(const Arguments& a) {
  fg::SampleParams p{};
  p.temperature = float(a.number("temperature"));
  p.top_k = a.integer("topK");
  p.top_p = float(a.number("topP"));
  p.min_p = float(a.number("minP"));
  p.repetition_penalty = float(a.number("repetitionPenalty"));
  p.seed = uint64_t(a.integer("seed"));
  p.step = uint32_t(a.integer("step"));
  return p;
}

/// The same arguments for both: { logits, dtype, rows, vocab, rowStride, coordinates (rows, 3), seen?, ... }.
struct SampleCall {
  const void* logits;
  fg::DType dtype;
  int64_t rows, vocab, row_stride, elements;
  const fg::cuda::SampleCoordinates* coordinates;
  const uint8_t* seen;
  std::vector<int32_t> chosen, status;
  std::vector<float> logp;

  explicit SampleCall(const Arguments& a)
      : dtype(fg::DType(a.integer("dtype"))),
        rows(a.integer("rows")),
        vocab(a.integer("vocab")),
        row_stride(a.integer("rowStride")),
        elements(rows > 0 ? (rows - 1) * row_stride + vocab : 0),
        coordinates(reinterpret_cast<const fg::cuda::SampleCoordinates*>(a.required<int32_t>("coordinates", rows * 3))),
        seen(a.array<uint8_t>("seen", rows * vocab)),
        chosen(size_t(rows)),
        status(size_t(rows)),
        logp(size_t(rows)) {
    if (dtype == fg::DType::f32)
      logits = a.required<float>("logits", elements);
    else
      logits = a.required<uint16_t>("logits", elements);
  }
  Napi::Value result(Napi::Env env) const {
    const auto count = size_t(rows);
    const auto ids = Napi::Int32Array::New(env, count), states = Napi::Int32Array::New(env, count);
    const auto logps = Napi::Float32Array::New(env, count);
    std::copy(chosen.begin(), chosen.end(), Napi::Int32Array(ids).Data());
    std::copy(status.begin(), status.end(), Napi::Int32Array(states).Data());
    std::copy(logp.begin(), logp.end(), Napi::Float32Array(logps).Data());
    Napi::Object out = Napi::Object::New(env);
    out.Set("chosen", ids);
    out.Set("logp", logps);
    out.Set("status", states);
    return out;
  }
};

Napi::Value sample(const Napi::CallbackInfo& info) {
  return fg::backend::on_device(info.Env(), [&]() -> Napi::Value {
    const Arguments a(info[0].As<Napi::Object>());
    SampleCall call(a);
    DeviceArrays device;
    fg::cuda::SampleArgs args;
    args.logits = device.twin(call.logits, size_t(call.elements * fg::size_of(call.dtype)), true);
    args.dtype = call.dtype;
    args.rows = call.rows, args.vocab = call.vocab, args.row_stride = call.row_stride;
    args.params = params_of(a);
    args.coordinates = device.in(call.coordinates, call.rows);
    args.seen = device.in(call.seen, call.rows * call.vocab);
    args.chosen = changing(device, call.chosen.data(), call.rows);
    args.logp = changing(device, call.logp.data(), call.rows);
    args.status = reinterpret_cast<fg::SampleStatus*>(changing(device, call.status.data(), call.rows));
    check(fg::cuda::sample(fg::backend::context(), args));
    device.back(false);
    return call.result(info.Env());
  });
}

const fg::backend::Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("adamw", Napi::Function::New(env, adamw));
  o.Set("sample", Napi::Function::New(env, sample));
});

}  // namespace
