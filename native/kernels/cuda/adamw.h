#pragma once
// The optimizer on device memory: the norm of all gradients in two launches and AdamW over all parameters in one,
// however many tensors there are. The clipping factor stays on the device: no host wait between the two.
#include "kernels/adamw.h"
#include "kernels/context.h"
#include "kernels/cuda/launch.h"

namespace fg::cuda {

/// All parameters. Both arrays lie in device memory; a tensor without gradient has no chunks.
struct OptimizerTable {
  const kernels::AdamWTensor* tensors = nullptr;  // (count), device pointers inside
  const int64_t* first_chunk = nullptr;           // (count + 1): chunks of the tensors before it
  int64_t count = 0;
  int64_t chunks = 0;  // first_chunk[count], known to the host
};

/// Fills `first_chunk` (count + 1) from tensors in HOST memory (whose pointers are not followed) and returns the number
/// of chunks. To be done again when a tensor gains or loses its gradient.
inline int64_t optimizer_chunks(const kernels::AdamWTensor* tensors, int64_t count, int64_t* first_chunk) {
  first_chunk[0] = 0;
  for (int64_t i = 0; i < count; ++i) first_chunk[i + 1] = first_chunk[i] + kernels::chunks_of(tensors[i]);
  return first_chunk[count];
}

/// What gradient_norm found; in device memory, 8-byte aligned.
struct GradientNorm {
  double norm;
  float scale;    // what adamw multiplies gradients by: fg::clip_scale
  uint32_t skip;  // 1: the norm is NaN or infinite; adamw with this record changes nothing
};

struct GradientNormArgs {
  OptimizerTable table;
  double max_norm = 0;          // 0: no clipping
  double* workspace = nullptr;  // (chunks); contents irrelevant
  GradientNorm* out = nullptr;
};
/// Square root of the sum of squares, in fp64 and in an order that the sizes (and the gradients' 16-byte phases) fix:
/// the same bits from run to run and on every device.
Launch gradient_norm(const Context&, const GradientNormArgs&);

struct AdamWArgs {
  OptimizerTable table;
  AdamWStep step;                      // gradient_scale is used when `norm` is null
  const GradientNorm* norm = nullptr;  // null: no clipping, nothing is skipped
};
/// Updates every tensor that has a gradient. Pointers may have any alignment that their element type allows.
Launch adamw(const Context&, const AdamWArgs&);

}  // namespace fg::cuda
