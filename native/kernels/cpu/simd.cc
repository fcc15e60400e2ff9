// Which instruction set the row sweeps use.
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/rows.h"
#include "kernels/kernels.h"

namespace fg::kernels {
namespace {

const RowKernels& choose() {
  const char* wanted = std::getenv("FUSED_GRPO_SIMD");
  const auto allowed = [&](const char* name) { return !wanted || !*wanted || std::strcmp(wanted, name) == 0; };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) return rows_avx512();
  if (avx2 && allowed("avx2")) return rows_avx2();
#elif defined(__aarch64__)
  if (allowed("neon")) return rows_neon();
#endif
  return rows_portable();
}

}  // namespace

const RowKernels& row_kernels() {
  static const RowKernels& chosen = choose();
  return chosen;
}

const char* simd() { return row_kernels().name; }

}  // namespace fg::kernels
