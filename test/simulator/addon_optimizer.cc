// For tests: AdamW and sampling of native/kernels/cuda on simulated device memory, and sample_row of native/kernels/cpu
// beside it. Arrays keep their 16-byte phase (byteOffset modulo 16) on the simulated device.
#include "simulator/addon_optimizer.h"

#include <memory>
#include <string>
#include <vector>

#include "addon/common/arguments.h"
#include "kernels/cuda/adamw.h"
#include "kernels/cuda/sampling.h"
#include "simulator/sim.h"

namespace {

using fg::Arguments;
using fg::kernels::AdamWTensor;

/// Device copies of host arrays, copied back in the end.
class Device {
 public:
  template <class T>
  T* in(T* host, int64_t count, size_t phase = 0) {
    if (!host) return nullptr;
    const size_t bytes = sizeof(T) * size_t(count);
    auto& b = buffers_.emplace_back(std::make_unique<fg::sim::Buffer>(bytes, phase));
    if (bytes) fg::sim::copy_in(b->as<char>(), host, bytes);
    return b->as<T>();
  }
  /// A typed array that the kernels may change.
  template <class T>
  T* changing(T* host, int64_t count) {
    if (!host) return nullptr;
    T* device = in(host, count, reinterpret_cast<uintptr_t>(host) & 15);
    back_.push_back({host, device, sizeof(T) * size_t(count)});
    return device;
  }
  template <class T>
  T* scratch(int64_t count) {
    return buffers_.emplace_back(std::make_unique<fg::sim::Buffer>(sizeof(T) * size_t(count)))->template as<T>();
  }
  void copy_back() const {
    for (const auto& b : back_)
      if (b.bytes) fg::sim::copy_out(b.host, b.device, b.bytes);
  }

 private:
  struct Back {
    void* host;
    const void* device;
    size_t bytes;
  };
  std::vector<std::unique_ptr<fg::sim::Buffer>> buffers_;
  std::vector<Back> back_;
};

void check(const fg::cuda::Launch& launch) {
  if (!launch.ok()) throw std::runtime_error(std::string(launch.what) + ": code " + std::to_string(launch.code));
}

template <class T>
T fetch(const T* device) {
  T value;
  fg::sim::copy_out(&value, device, sizeof value);
  return value;
}

AdamWTensor tensor_of(const Arguments& a, Device& device) {
  AdamWTensor t{};
  t.size = a.integer("size");
  if (a.has("master")) {
    t.parameter = device.changing(a.required<uint16_t>("parameter", t.size), t.size);
    t.master = device.changing(a.required<float>("master", t.size), t.size);
  } else {
    t.parameter = device.changing(a.required<float>("parameter", t.size), t.size);
  }
  t.gradient = device.changing(a.array<float>("gradient", t.size), t.size);
  t.moment1 = device.changing(a.required<float>("moment1", t.size), t.size);
  t.moment2 = device.changing(a.required<float>("moment2", t.size), t.size);
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
  return fg::guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = info[0].As<Napi::Object>();
    const Arguments a(object);
    const auto list = object.Get("tensors").As<Napi::Array>();
    Device device;
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
    auto* norm = device.scratch<fg::cuda::GradientNorm>(1);
    const fg::Context context{nullptr};
    check(fg::cuda::gradient_norm(context, {table, a.number("maxNorm"), device.scratch<double>(table.chunks), norm}));
    check(fg::cuda::adamw(context, {table, step_of(a), a.flag("useNorm") ? norm : nullptr}));
    device.copy_back();
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
  return fg::guarded(info.Env(), [&]() -> Napi::Value {
    const Arguments a(info[0].As<Napi::Object>());
    SampleCall call(a);
    Device device;
    fg::cuda::SampleArgs args;
    const size_t phase = reinterpret_cast<uintptr_t>(call.logits) & 15;
    const int64_t bytes = call.elements * fg::size_of(call.dtype);
    args.logits = device.in(static_cast<const char*>(call.logits), bytes, phase);
    args.dtype = call.dtype;
    args.rows = call.rows, args.vocab = call.vocab, args.row_stride = call.row_stride;
    args.params = params_of(a);
    args.coordinates = device.in(call.coordinates, call.rows);
    args.seen = device.in(call.seen, call.rows * call.vocab);
    args.chosen = device.changing(call.chosen.data(), call.rows);
    args.logp = device.changing(call.logp.data(), call.rows);
    args.status = reinterpret_cast<fg::SampleStatus*>(device.changing(call.status.data(), call.rows));
    check(fg::cuda::sample(fg::Context{nullptr}, args));
    device.copy_back();
    return call.result(info.Env());
  });
}

}  // namespace

void registerOptimizerAndSampling(Napi::Env env, Napi::Object exports) {
  exports.Set("adamw", Napi::Function::New(env, adamw));
  exports.Set("sample", Napi::Function::New(env, sample));
}
