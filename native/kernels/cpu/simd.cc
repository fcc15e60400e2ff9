// Which instruction set the row sweeps use.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/rows.h"
#include "kernels/kernels.h"

namespace fg::kernels {
namespace {

/// The best set that this machine has among those called `wanted` (null or empty: any); null if there is none.
const RowKernels* find(const char* wanted) {
  const auto allowed = [&](const char* name) { return !wanted || !*wanted || std::strcmp(wanted, name) == 0; };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) return &rows_avx512();
  if (avx2 && allowed("avx2")) return &rows_avx2();
#elif defined(__aarch64__)
  if (allowed("neon")) return &rows_neon();
#endif
  return allowed("portable") ? &rows_portable() : nullptr;
}

const RowKernels* initial() {
  const RowKernels* named = find(std::getenv("FUSED_GRPO_SIMD"));
  return named ? named : find(nullptr);
}

std::atomic<const RowKernels*>& chosen() {
  static std::atomic<const RowKernels*> kernels{initial()};
  return kernels;
}

}  // namespace

const RowKernels& row_kernels() { return *chosen().load(std::memory_order_relaxed); }

const char* simd() { return row_kernels().name; }

bool use_simd(const char* name) {
  const RowKernels* kernels = find(name);
  if (kernels) chosen() = kernels;
  return kernels != nullptr;
}

}  // namespace fg::kernels
