// The core addon: functional ops on typed arrays. No libtorch.
#include <dlfcn.h>

#include "addon/core/ops.h"

extern "C" const char fused_grpo_version[];  // addon/common/identity.cc

// Opens a library for good, for addons that come after: the loader finds a library that is already there by its name. A
// prebuilt engine has no path to a libtorch that lies elsewhere, and Node itself opens nothing but addons.
static void OpenLibrary(const Napi::CallbackInfo& info) {
  const std::string file = info[0].As<Napi::String>();
  if (!dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE)) throw Napi::Error::New(info.Env(), dlerror());
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", fused_grpo_version);
  exports.Set("openLibrary", Napi::Function::New(env, OpenLibrary));
  fg::register_ops(env, exports);
  fg::register_value_ops(env, exports);
  return exports;
}
NODE_API_MODULE(core, Init)
