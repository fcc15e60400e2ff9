#pragma once
// Causal attention over packed rows, forward and gradient: no padding, no mask in memory, and prompts that several
// completions share are there once.
#include "kernels/context.h"
#include "kernels/scalar.h"
#include "kernels/view.h"

namespace fg {

/// Consecutive rows that attend to themselves (causally) and, before that, to all rows of another segment, the prefix.
struct Segment {
  int64_t begin = 0, end = 0;
  int64_t prefix = -1;  // number of a segment that has no prefix itself, or -1

  int64_t length() const { return end - begin; }
};

struct AttentionArgs {
  const Segment* segments;
  int64_t count;
  const void *q, *k, *v;  // (rows, heads * dim), (rows, kv_heads * dim) twice, contiguous
  void* out;              // (rows, heads * dim)
  float* lse;             // (rows, heads): log of the sum of exponentials, kept for the gradient
  int64_t heads, kv_heads, dim;
  int64_t window;  // attends to that many last positions, itself included; 0: to all
  float scale;
  DType dtype;  // f32 or bf16; arithmetic is float32
};
void attention_forward(const Context&, const AttentionArgs&);

struct AttentionGradArgs {
  AttentionArgs forward;  // out and lse filled by attention_forward
  const void* dout;       // as out
  void *dq, *dk, *dv;     // as q, k, v
  float* workspace;       // attention_workspace(forward) floats
};
/// Floats of scratch: what each segment adds to the gradient of a shared prefix, summed afterwards in the segments'
/// order.
int64_t attention_workspace(const AttentionArgs&);
void attention_backward(const Context&, const AttentionGradArgs&);

}  // namespace fg
