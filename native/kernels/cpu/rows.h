#pragma once
// The two sweeps over one row of logits. One implementation per instruction set (rows_*.cc), chosen at run time.
#include <cstdint>

#include "kernels/view.h"
#include "math/softmax.h"

namespace fg::kernels {

/// Coefficients of a row's gradient: g_j = exp(x_j) (a + b x_j), x_j = (z_j - max) / temperature in units of log2(e).
struct RowGradient {
  float max;
  float a, b;
};

/// Columns worked on at a time: their second look is served by the first-level cache.
inline constexpr int64_t kBlock = 2048;

/// What the sums of a row leave for its gradient, which then has no exponentials to compute: 2^x of each column
/// by the maximum known so far, and that maximum for each block.
struct RowPowers {
  float* powers;  // whole vectors: `floats` less the maxima, 64-byte aligned
  float* maxima;

  /// Floats of memory for a row.
  static int64_t floats(int64_t n) { return aligned(n) + (n + kBlock - 1) / kBlock; }
  static RowPowers in(float* memory, int64_t n) { return {memory, memory + aligned(n)}; }

 private:
  static int64_t aligned(int64_t n) { return (n + 15) / 16 * 16; }
};

struct RowKernels {
  const char* name;
  /// Columns of a float32 row up to which keeping its powers pays: beyond, the second-level cache has better to do.
  /// (16-bit rows take half of its room: always.)
  int64_t most_kept;
  /// Maximum and sums over the columns other than `target`; raw.max in logits, the sums of (z - max) / temperature.
  /// `scale` = log2(e) / temperature. `kept` (or null) is filled.
  void (*sums)(DType, const void* row, int64_t n, int64_t target, float scale, bool entropy, const RowPowers* kept,
               RestSums* out);
  /// Writes every column; the caller overwrites the target's. `kept` (or null): what the sums of this row filled.
  /// `next` (or null) is the row that will be read next: it is fetched into the cache meanwhile.
  void (*gradient)(DType, const void* row, void* out, int64_t n, float scale, const RowGradient&, const RowPowers* kept,
                   const void* next);
};

const RowKernels& rows_portable();
#if defined(__x86_64__)
const RowKernels& rows_avx2();
const RowKernels& rows_avx512();
#elif defined(__aarch64__)
const RowKernels& rows_neon();
#endif

/// The best that this machine has, or what FUSED_GRPO_SIMD names. Decided once.
const RowKernels& row_kernels();

}  // namespace fg::kernels
