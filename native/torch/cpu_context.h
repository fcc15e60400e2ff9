#pragma once
// Kernels on libtorch's threads.
#include <algorithm>

#include "kernels/context.h"
#include "torch/torch_min.h"

namespace fg {

/// Runs a kernel's tasks with at::parallel_for. Inside another parallel region everything stays on the calling thread.
inline Context cpu_context() {
  Context context;
  context.parallel_for = [](int64_t n, int64_t chunk, RangeBody body, void* state) {
    const int64_t tasks = (n + chunk - 1) / chunk;
    auto run = [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) body(state, c * chunk, std::min(n, (c + 1) * chunk));
    };
    if (tasks == 1 || at::in_parallel_region())
      run(0, tasks);
    else
      at::parallel_for(0, tasks, 1, run);
  };
  return context;
}

}  // namespace fg
