#pragma once
// Kernels on libtorch's threads.
#include <algorithm>
#include <cstdlib>

#include "kernels/context.h"
#include "torch/caching_allocator.h"
#include "torch/torch_min.h"

namespace fg {

/// Grown on demand and kept until the thread ends: fresh pages would cost more than what is done in them.
inline void* thread_scratch(int64_t bytes) {
  struct Memory {
    ~Memory() { std::free(data); }
    void* data = nullptr;
    int64_t size = 0;
  };
  thread_local Memory memory;
  if (memory.size < bytes) {
    std::free(memory.data);
    memory.size = (bytes + bytes / 4 + 63) / 64 * 64;
    memory.data = std::aligned_alloc(64, static_cast<size_t>(memory.size));
    if (!memory.data) {
      release_cached_memory();
      memory.data = std::aligned_alloc(64, static_cast<size_t>(memory.size));
    }
    if (!memory.data) memory.size = 0;
    TORCH_CHECK_WITH(OutOfMemoryError, memory.data, "Not enough memory: tried to allocate ", bytes, " bytes");
  }
  return memory.data;
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
  context.scratch = thread_scratch;
  return context;
}

}  // namespace fg
