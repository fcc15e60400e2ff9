#pragma once
#include "addon/common/napi_min.h"
#include "kernels/adamw.h"

namespace fg {

void register_adamw(Napi::Env env, Napi::Object exports);

}  // namespace fg
