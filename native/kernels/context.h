#pragma once
// What a kernel gets from the layer above: how to run in parallel, and on which stream. Kernels own no threads and no
// memory.
#include <cstdint>

namespace fg {

/// Work on the half-open range [begin, end); `state` is the caller's.
using RangeBody = void (*)(void* state, int64_t begin, int64_t end);

/// Calls `body` for [0, chunk), [chunk, 2 chunk), ... up to n, on any threads, and returns when all are done.
/// The partition is decided by `chunk` alone, never by the number of threads: results do not depend on it.
/// An exception in `body` is rethrown in the caller.
using ParallelFor = void (*)(int64_t n, int64_t chunk, RangeBody body, void* state);

/// The same by threads of the caller's own: `team` says which.
using TeamParallelFor = void (*)(void* team, int64_t n, int64_t chunk, RangeBody body, void* state);

/// Memory of the calling thread, 64-byte aligned, its own until it asks again. Null where there is none (or an
/// exception of the layer above).
using ScratchMemory = void* (*)(int64_t bytes);

struct Context {
  ParallelFor parallel_for;
  void* stream = nullptr;                       // a cudaStream_t for CUDA kernels; unused on the CPU
  ScratchMemory scratch = nullptr;              // CPU kernels of models need it, others are faster with it
  TeamParallelFor team_parallel_for = nullptr;  // given: instead of parallel_for
  void* team = nullptr;
};

/// Runs a callable `fn(begin, end)` through the context.
template <class Fn>
void parallel_for(const Context& context, int64_t n, int64_t chunk, Fn&& fn) {
  if (n <= 0) return;
  const RangeBody body = [](void* state, int64_t begin, int64_t end) { (*static_cast<Fn*>(state))(begin, end); };
  void* state = const_cast<void*>(static_cast<const void*>(&fn));
  if (context.team_parallel_for) return context.team_parallel_for(context.team, n, chunk, body, state);
  context.parallel_for(n, chunk, body, state);
}

}  // namespace fg
