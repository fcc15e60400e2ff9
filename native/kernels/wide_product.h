#pragma once
// Products of bfloat16 matrices by way of float32, without float32 copies of them: numbers are widened as they are
// packed, sums are float32, and results are rounded once. For processors with AVX-512 whose products of bfloat16 are
// slower than those of float32.
#include "kernels/context.h"
#include "kernels/scalar.h"
#include "kernels/view.h"

namespace fg {

/// Element (i, j) at i * row_stride + j * column_stride; where the stride of A's rows, or of B's columns, is not 1, the
/// other one is.
struct WideMatrix {
  const bf16* data;
  int64_t row_stride, column_stride;
};

/// C (rows x columns) = A (rows x inner) B (inner x columns), plus the residual, or added to C.
struct WideProductArgs {
  WideMatrix a, b;
  int64_t rows, inner, columns;
  void* c;      // rows of c_stride elements; neither A nor B
  DType dtype;  // of C: bf16 or f32
  int64_t c_stride;
  bool add = false;                // f32: to what C holds
  const bf16* residual = nullptr;  // bf16: shaped as C, which it may be; added before the rounding
  int64_t residual_stride = 0;
  int threads = 1;             // that the work is cut for; no result depends on it
  float* workspace = nullptr;  // wide_product_floats, 64-byte aligned
};

/// Whether this machine has AVX-512, and no older instruction set is asked for.
bool has_wide_product();

int64_t wide_product_floats(const WideProductArgs&);

/// The order of a sum depends on the shape alone. The context must have scratch memory.
void wide_product(const Context&, const WideProductArgs&);

}  // namespace fg
