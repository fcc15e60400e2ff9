// The core addon: functional ops on typed arrays. No libtorch.
#include "addon/core/ops.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Napi::String::New(env, "0.1.0"));
  fg::register_ops(env, exports);
  fg::register_value_ops(env, exports);
  return exports;
}
NODE_API_MODULE(core, Init)
