#pragma once
// libtorch's word for an element type and the kernels' word.
#include "kernels/view.h"
#include "torch/torch_min.h"

namespace fg {

/// Of a model's tensors: float32 or bfloat16.
inline DType dtype_of(const at::Tensor& t) {
  TORCH_CHECK(t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16, "expected float32 or bfloat16, not ",
              t.scalar_type());
  return t.scalar_type() == at::kFloat ? DType::f32 : DType::bf16;
}

inline at::ScalarType scalar_type(DType t) {
  return t == DType::f32 ? at::kFloat : t == DType::bf16 ? at::kBFloat16 : at::kHalf;
}

}  // namespace fg
