#pragma once
// Kernels on libtorch's threads.
#include <algorithm>

#include "kernels/context.h"
#include "parallel/thread_scratch.h"
#include "torch/caching_allocator.h"
#include "torch/torch_min.h"

namespace fg {

/// Of the calling thread; what libtorch's cache holds is given back before there is none.
inline void* engine_scratch(int64_t bytes) {
  void* memory = thread_scratch(bytes);
  if (!memory) {
    release_cached_memory();
    memory = thread_scratch(bytes);
  }
  TORCH_CHECK_WITH(OutOfMemoryError, memory, "Not enough memory: tried to allocate ", bytes, " bytes");
  return memory;
}

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
  context.scratch = engine_scratch;
  return context;
}

}  // namespace fg
