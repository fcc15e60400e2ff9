// The engine addon: models, sampling and training by libtorch.
#include "addon/common/napi_min.h"
#include "addon/engine/adamw.h"
#include "addon/engine/model_handle.h"
#include "addon/engine/reference.h"
#include "torch/caching_allocator.h"
#include "torch/torch_min.h"

static Napi::Value Info(const Napi::CallbackInfo& info) {
  auto out = Napi::Object::New(info.Env());
  out.Set("torchVersion", TORCH_VERSION);
  out.Set("threads", at::get_num_threads());
  return out;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  fg::install_caching_allocator();
  exports.Set("info", Napi::Function::New(env, Info));
  exports.Set("Model", fg::ModelHandle::define(env));
  fg::register_reference(env, exports);
  fg::register_adamw(env, exports);
  return exports;
}
NODE_API_MODULE(engine, Init)
