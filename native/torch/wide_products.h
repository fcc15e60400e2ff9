#pragma once
// Products of bfloat16 tensors by way of float32: by the kernel that widens what it reads, or, without AVX-512, by
// libtorch's product of float32 copies.
#include "kernels/wide_product.h"

#include "torch/cpu_context.h"
#include "torch/dtype.h"

namespace fg {

/// `t` itself, or a copy, where the kernel could not read it.
inline at::Tensor wide_operand(const at::Tensor& t) {
  TORCH_CHECK(t.dim() == 2 && t.scalar_type() == at::kBFloat16, "wide product: expected a bfloat16 matrix");
  return t.stride(0) == 1 || t.stride(1) == 1 ? t : t.contiguous();
}

inline WideMatrix wide_matrix(const at::Tensor& t) {
  return {static_cast<const bf16*>(t.const_data_ptr()), t.stride(0), t.stride(1)};
}

/// c = a b + residual (bfloat16, or undefined) for a bfloat16 c, rounded once; c = a b, or c += a b when `add`, for a
/// float32 c.
inline void wide_product_into(at::Tensor c, const at::Tensor& a, const at::Tensor& b, const at::Tensor& residual,
                              bool add) {
  const at::Tensor left = wide_operand(a), right = wide_operand(b);
  at::Tensor added = residual;
  if (added.defined() && added.stride(1) != 1) added = added.contiguous();
  TORCH_CHECK(left.size(1) == right.size(0) && c.size(0) == left.size(0) && c.size(1) == right.size(1) &&
                  (c.stride(1) == 1 || c.size(1) < 2) && (!added.defined() || added.sizes() == c.sizes()),
              "wide product: bad shapes");
  WideProductArgs p{};
  p.a = wide_matrix(left);
  p.b = wide_matrix(right);
  p.rows = left.size(0), p.inner = left.size(1), p.columns = right.size(1);
  p.c = c.mutable_data_ptr();
  p.dtype = dtype_of(c);
  p.c_stride = c.stride(0);
  p.add = add;
  if (added.defined()) {
    p.residual = static_cast<const bf16*>(added.const_data_ptr());
    p.residual_stride = added.stride(0);
  }
  const at::Tensor workspace = at::empty({wide_product_floats(p)}, at::TensorOptions(at::kFloat));
  p.workspace = workspace.mutable_data_ptr<float>();
  wide_product(cpu_context(), p);
}

/// a b (+ residual), bfloat16.
inline at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& residual = {}) {
  if (has_wide_product()) {
    at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
    wide_product_into(c, a, b, residual, false);
    return c;
  }
  const at::Tensor left = a.to(at::kFloat), right = b.to(at::kFloat);
  return (residual.defined() ? at::addmm(residual.to(at::kFloat), left, right) : at::mm(left, right)).to(at::kBFloat16);
}

}  // namespace fg
