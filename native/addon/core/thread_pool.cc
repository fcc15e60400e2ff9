#include "addon/core/thread_pool.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "parallel/pool.h"

namespace fg {
namespace {

int wanted() {
  if (const char* text = std::getenv("FUSED_GRPO_THREADS"); text && *text) return std::clamp(std::atoi(text), 1, 1024);
  return int(std::max(1u, std::thread::hardware_concurrency()));  // respects the affinity mask
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
