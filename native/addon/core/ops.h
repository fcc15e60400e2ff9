#pragma once
#include "addon/common/napi_min.h"

namespace fg {

void register_ops(Napi::Env env, Napi::Object exports);
void register_value_ops(Napi::Env env, Napi::Object exports);  // of kernels/value_ops.h

}  // namespace fg
