#pragma once
// The core's own threads: few, asleep between calls, shared by every worker_thread of the process.
#include "kernels/context.h"
#include "parallel/thread_scratch.h"

namespace fg {

/// FUSED_GRPO_THREADS if set, else the cores this process may run on. Decided at first use.
int pool_threads();

/// A ParallelFor: the caller works too. May be called from several threads at once and from inside itself.
void pool_parallel_for(int64_t n, int64_t chunk, RangeBody body, void* state);

inline Context core_context() {
  Context context;
  context.parallel_for = pool_parallel_for;
  context.scratch = thread_scratch;
  return context;
}

}  // namespace fg
