#pragma once
#include "addon/common/napi_min.h"

namespace fg {

void register_ops(Napi::Env env, Napi::Object exports);

}  // namespace fg
