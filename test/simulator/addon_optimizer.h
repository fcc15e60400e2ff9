#pragma once
// The optimizer's and the sampler's kernels on typed arrays, in the simulator.
#include <napi.h>

void registerOptimizerAndSampling(Napi::Env env, Napi::Object exports);
