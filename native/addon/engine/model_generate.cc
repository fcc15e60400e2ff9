#include "addon/engine/model_handle.h"

namespace fg {
Napi::Value ModelHandle::generate(const Napi::CallbackInfo& info) { throw Napi::Error::New(info.Env(), "pending"); }
}  // namespace fg
