#pragma once
// Products of bfloat16 tensors by way of float32: by the kernel that widens what it reads, or, without AVX-512, by
// libtorch's product of float32 copies.
#include "kernels/linear.h"
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
  p.threads = at::get_num_threads();
  if (added.defined()) {
    p.residual = static_cast<const bf16*>(added.const_data_ptr());
    p.residual_stride = added.stride(0);
  }
  const at::Tensor workspace = at::empty({wide_product_floats(p)}, at::TensorOptions(at::kFloat));
  p.workspace = workspace.mutable_data_ptr<float>();
  wide_product(cpu_context(), p);
}

/// a b, bfloat16.
inline at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (!has_wide_product()) return at::mm(a.to(at::kFloat), b.to(at::kFloat)).to(at::kBFloat16);
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  wide_product_into(c, a, b, {}, false);
  return c;
}

/// Up to so many rows the weight is better read as it lies than packed.
constexpr int64_t kFewRows = 48;

/// y = x W^T (+ residual), all bfloat16, for machines with the kernels.
inline void wide_forward_into(at::Tensor y, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  if (x.size(0) > kFewRows || !weight.is_contiguous() || !y.is_contiguous())
    return wide_product_into(y, x, weight.t(), residual, false);
  TORCH_CHECK(x.size(1) == weight.size(1) && y.size(0) == x.size(0) && y.size(1) == weight.size(0) &&
                  (!residual.defined() || residual.sizes() == y.sizes()),
              "wide product: bad shapes");
  const at::Tensor rows = x.contiguous(), added = residual.defined() ? residual.contiguous() : residual;
  const int64_t n = rows.size(0), in = weight.size(1), out = weight.size(0);
  const at::Tensor scratch = at::empty({n * plain_scratch_floats(in)}, at::TensorOptions(at::kFloat));
  linear_plain(cpu_context(), {rows.const_data_ptr(), weight.const_data_ptr(), nullptr,
                               added.defined() ? added.const_data_ptr() : nullptr, y.mutable_data_ptr(), n, in, out,
                               DType::bf16, scratch.mutable_data_ptr<float>()});
}

/// x W^T (+ residual), bfloat16.
inline at::Tensor wide_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  if (has_wide_product()) {
    at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
    wide_forward_into(y, x, weight, residual);
    return y;
  }
  const at::Tensor wide = x.to(at::kFloat), columns = weight.to(at::kFloat).t();
  return (residual.defined() ? at::addmm(residual.to(at::kFloat), wide, columns) : at::mm(wide, columns))
      .to(at::kBFloat16);
}

}  // namespace fg
