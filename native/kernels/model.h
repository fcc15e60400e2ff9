#pragma once
// The kernels of a transformer layer between its matrix products. Raw memory, rows of fixed length; the full forward,
// its gradient and the decoding step use the same ones, so that a log-prob is the same number wherever it is computed.
#include "kernels/context.h"
#include "kernels/scalar.h"
#include "kernels/view.h"

namespace fg {

// ---- Normalisation over the last dimension
// ----------------------------------------------------------------------------------------
struct NormArgs {
  const void* x;       // (rows, width), row stride `x_stride` elements
  const void* weight;  // (width)
  const void* bias;    // (width) or null: RMSNorm has none
  void* y;             // (rows, width), contiguous
  float* rstd;         // (rows) or null: kept for the gradient
  float* mean;         // (rows) or null; LayerNorm only
  int64_t rows, width, x_stride;
  float eps;
  float weight_offset;  // 1 for Gemma, whose weights are stored minus one
  bool center;          // true: LayerNorm; false: RMSNorm
  DType dtype;
};
void norm_forward(const Context&, const NormArgs&);

struct NormGradArgs {
  NormArgs forward;  // rstd (and mean) filled by norm_forward; y unused
  const void* dy;    // (rows, width), contiguous
  void* dx;          // (rows, width), contiguous
  void* dweight;     // (width)
  void* dbias;       // (width) or null
  float* workspace;  // norm_workspace(rows, width) floats
};
/// Floats of scratch: partial sums over a fixed partition of the rows, so that results do not depend on the number of
/// threads.
int64_t norm_workspace(int64_t rows, int64_t width);
void norm_backward(const Context&, const NormGradArgs&);

// ---- Rotary position embedding, with the split of a joint q/k/v row
// -----------------------------------------------------------------
struct RopeArgs {
  const void* qkv;           // (rows, (heads + 2 kv_heads) * dim), contiguous
  const int64_t* positions;  // (rows)
  const float* cos;          // (max_positions, dim / 2), or null: no rotation
  const float* sin;
  const void* q_norm;  // (dim) or null: RMSNorm over each head before the rotation (Qwen3, Gemma 3)
  const void* k_norm;
  void *q, *k, *v;  // (rows, heads * dim), (rows, kv_heads * dim) twice
  float* rstd;      // (rows, heads + kv_heads) or null: kept for the gradient of the head norms
  int64_t rows, heads, kv_heads, dim;
  float eps, weight_offset;
  DType dtype;
};
void rope_forward(const Context&, const RopeArgs&);

struct RopeGradArgs {
  RopeArgs forward;          // qkv (needed only with head norms), positions, tables, rstd; q, k, v unused
  const void *dq, *dk, *dv;  // as q, k, v
  void* dqkv;                // as qkv
  void *dq_norm, *dk_norm;   // (dim) or null
  float* workspace;          // rope_workspace(rows, dim) floats when there are head norms
};
int64_t rope_workspace(int64_t rows, int64_t dim);
void rope_backward(const Context&, const RopeGradArgs&);

// ---- Gated and plain activations
// ---------------------------------------------------------------------------------------------------
enum class Activation : int32_t { silu, gelu_tanh, gelu, relu };

struct ActivationArgs {
  const void* x;   // gated: (rows, 2 width), gate first, then up; plain: (rows, width)
  const void* dy;  // (rows, width); gradient only
  void* y;         // forward: (rows, width) = act(gate) * up or act(x); gradient: dx, shaped as x
  int64_t rows, width;
  Activation activation;
  bool gated;
  DType dtype;
};
void activation_forward(const Context&, const ActivationArgs&);
void activation_backward(const Context&, const ActivationArgs&);

}  // namespace fg
