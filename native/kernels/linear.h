#pragma once
// y = x W^T (+ bias) (+ residual) and its gradients, where a library's product spends its time on packing, dispatch and
// threads: the few rows of a decoding step, and weights that stay in cache.
#include "kernels/context.h"
#include "kernels/scalar.h"
#include "kernels/view.h"

namespace fg {

/// Outputs that are computed together. A packed weight is one panel after another, each (in, kPanel), zeros behind
/// `out`.
constexpr int64_t kPanel = 32;

/// Floats of a packed weight of `out` outputs and `in` inputs.
int64_t packed_floats(int64_t out, int64_t in);

struct PackArgs {
  const void* weight;  // element (o, i) at o * out_stride + i * in_stride
  int64_t out, in, out_stride, in_stride;
  DType dtype;
  float* packed;  // packed_floats(out, in), 64-byte aligned
};
void pack_weight(const PackArgs&);

/// With a packed weight that stays in cache, on the calling thread.
struct LinearArgs {
  const void* x;         // (rows, in), contiguous
  const float* packed;   // of pack_weight
  const void* bias;      // (out) or null
  const void* residual;  // (rows, out) contiguous, or null; may be y
  void* y;               // (rows, out), contiguous
  int64_t rows, in, out;
  DType dtype;  // of x, bias, residual and y; sums are float32 in the order of the inputs, so that a row's numbers do
                // not depend on how many rows there are
  float* scratch;  // (rows, in), used with bfloat16 only
};
void linear_forward(const LinearArgs&);
/// The same in parallel over the rows, with float32 only.
void linear_forward(const Context&, const LinearArgs&);

/// The gradients of y = x W^T, float32, for weights that stay in cache: dx = dy W and dW = dy^T x.
struct LinearGradArgs {
  const float* x;         // (rows, in), contiguous as everything here; for dweight
  const float* weight;    // (out, in); for dx
  const float* dy;        // (rows, out)
  float* dx;              // (rows, in)
  float* dweight;         // (out, in), summed in the order of the rows
  int64_t rows, in, out;  // in: a multiple of 16
};
void linear_input_gradient(const Context&, const LinearGradArgs&);
void linear_weight_gradient(const Context&, const LinearGradArgs&);

/// Floats of scratch that linear_plain wants for each row.
constexpr int64_t plain_scratch_floats(int64_t in) { return (in + 31) / 32 * 32; }

/// The forward product with the weight as it lies, for models that are read from memory at every step: in parallel over
/// the outputs.
struct LinearPlainArgs {
  const void* x;         // (rows, in), contiguous
  const void* weight;    // (out, in), contiguous
  const void* bias;      // (out) or null
  const void* residual;  // (rows, out) contiguous, or null; may be y
  void* y;               // (rows, out), contiguous
  int64_t rows, in, out;
  DType dtype;     // of all of it; sums are float32, in an order that does not depend on the rows
  float* scratch;  // rows * plain_scratch_floats(in), used with bfloat16 only
};
void linear_plain(const Context&, const LinearPlainArgs&);

}  // namespace fg
