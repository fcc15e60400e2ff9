#include "addon/core/thread_pool.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "parallel/pool.h"

namespace fg {
namespace {

int wanted() {
  const int cores = int(std::max(1u, std::thread::hardware_concurrency()));  // respects the affinity mask
  const char* text = std::getenv("FUSED_GRPO_THREADS");
  if (!text || !*text) return cores;
  char* end = nullptr;
  const long threads = std::strtol(text, &end, 10);
  if (*end == '\0' && threads >= 1) return int(std::min(threads, 1024L));
  std::fprintf(stderr, "fused-grpo: FUSED_GRPO_THREADS is '%s', which is no number of threads; using %d\n", text,
               cores);
  return cores;
}

/// Never destroyed: its threads sleep on it until the process ends, and the addon is never unloaded (-z nodelete).
Pool& pool() {
  static Pool* const instance = new Pool(wanted());
  return *instance;
}

}  // namespace

int pool_threads() { return pool().threads(); }

void pool_parallel_for(int64_t n, int64_t chunk, RangeBody body, void* state) { pool().run(n, chunk, body, state); }

}  // namespace fg
