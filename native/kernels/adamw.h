#pragma once
// The optimizer's kernels: global gradient norm and AdamW over all parameters in one parallel pass.
#include <cstdint>

#include "kernels/context.h"
#include "math/adamw.h"

namespace fg::kernels {

/// One parameter tensor of `size` elements, contiguous.
struct AdamWTensor {
  void* parameter;        // float32, or bfloat16 when `master` is given
  float* master;          // float32 copy that the update is made on; null for float32 parameters
  const float* gradient;  // null: this tensor got no gradient and is left alone
  float* moment1;
  float* moment2;
  int64_t size;
  bool decay;  // apply weight decay to it
};

/// Elements that one piece of parallel work covers.
inline constexpr int64_t kOptimizerChunk = 1 << 15;

/// Pieces of a tensor; one without a gradient has none.
inline int64_t chunks_of(const AdamWTensor& tensor) {
  return tensor.gradient ? (tensor.size + kOptimizerChunk - 1) / kOptimizerChunk : 0;
}

/// doubles of scratch that `gradient_norm` needs.
int64_t gradient_norm_workspace(const AdamWTensor* tensors, int64_t count);

/// sqrt of the sum of squares of all gradients, in float64, in an order fixed by the sizes alone.
double gradient_norm(const Context& context, const AdamWTensor* tensors, int64_t count, double* workspace);

/// Updates every tensor that has a gradient. `step.weight_decay` applies where `decay` is set.
void adamw(const Context& context, const AdamWTensor* tensors, int64_t count, const AdamWStep& step);

}  // namespace fg::kernels
