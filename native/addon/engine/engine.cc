// The engine addon: models, sampling and training by libtorch.
#include "addon/common/napi_min.h"
#include "addon/engine/adamw.h"
#include "addon/engine/group.h"
#include "addon/engine/model_handle.h"
#include "addon/engine/reference.h"
#include "addon/engine/tensor.h"
#include "torch/caching_allocator.h"
#include "torch/cuda_context.h"
#include "torch/torch_min.h"

static Napi::Array devices(Napi::Env env, const fg::CudaStatus& cuda) {
  auto list = Napi::Array::New(env);
  auto cpu = Napi::Object::New(env);
  cpu.Set("name", "cpu");
  list[0u] = cpu;
  for (const fg::GpuInfo& gpu : cuda.gpus) {
    if (!cuda.usable) break;
    auto o = Napi::Object::New(env);
    o.Set("name", "cuda:" + std::to_string(gpu.index));
    o.Set("description", gpu.description);
    o.Set("memoryBytes", Napi::Number::New(env, static_cast<double>(gpu.memory_bytes)));
    o.Set("computeCapability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
    list[list.Length()] = o;
  }
  return list;
}

static Napi::Value Info(const Napi::CallbackInfo& info) {
  auto out = Napi::Object::New(info.Env());
  out.Set("torchVersion", TORCH_VERSION);
#ifdef INTRA_OP_PARALLEL  // libtorch's own: at::parallel_for is parallel in sources compiled with OpenMP, and only
                          // there
  out.Set("threads", at::get_num_threads());
#else
  out.Set("threads", 1);
#endif
  const fg::CudaStatus& cuda = fg::cuda_status();
  out.Set("cuda", cuda.usable);
  if (!cuda.usable) out.Set("cudaReason", cuda.reason);
  const std::vector<std::string> compiled = fg::cuda_architectures();
  auto architectures = Napi::Array::New(info.Env(), compiled.size());
  for (uint32_t i = 0; i < compiled.size(); ++i) architectures[i] = Napi::String::New(info.Env(), compiled[i]);
  out.Set("cudaArchitectures", architectures);
  out.Set("devices", devices(info.Env(), cuda));
  return out;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  fg::open_cuda();  // first: at::hasCUDA() remembers its answer
  fg::install_caching_allocator();
  exports.Set("info", Napi::Function::New(env, Info));
  exports.Set("Model", fg::ModelHandle::define(env));
  exports.Set("Tensor", fg::TensorHandle::define(env));
  exports.Set("Group", fg::GroupHandle::define(env));
  exports.Set("TensorOps", fg::TensorOps::define(env));
  fg::register_reference(env, exports);
  fg::register_adamw(env, exports);
  return exports;
}
NODE_API_MODULE(engine, Init)
