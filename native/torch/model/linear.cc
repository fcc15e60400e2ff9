// x W^T as a differentiable operation, by whatever is fastest for the weight and the machine.
#include "kernels/linear.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "torch/cpu_context.h"
#include "torch/model/ops.h"
#include "torch/wide_products.h"

namespace fg::ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Maybe = std::optional<at::Tensor>;

at::Tensor forward_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  const int64_t out = weight.size(0), in = weight.size(1);
  at::Tensor packed = at::empty({packed_floats(out, in)}, weight.options()),
             y = at::empty({x.size(0), out}, x.options());
  pack_weight({weight.const_data_ptr(), out, in, in, 1, DType::f32, packed.mutable_data_ptr<float>()});
  linear_forward(cpu_context(), {x.const_data_ptr(), packed.const_data_ptr<float>(), nullptr,
                                 residual.defined() ? residual.const_data_ptr() : nullptr, y.mutable_data_ptr(),
                                 x.size(0), in, out, DType::f32, nullptr});
  return y;
}

/// What a product's gradient needs, and which of its inputs want one.
void remember(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const Maybe& residual) {
  // The input is needed for the weight's gradient alone: a frozen weight keeps nothing but itself.
  ctx->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
  ctx->saved_data["wanted"] = std::vector<int64_t>{x.requires_grad(), weight.requires_grad(), residual.has_value()};
}

struct SmallLinear : Function<SmallLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const Maybe& residual) {
    at::AutoDispatchBelowADInplaceOrView guard;
    remember(ctx, x, weight, residual);
    return forward_product(x, weight, residual.value_or(at::Tensor()));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto wanted = ctx->saved_data["wanted"].toIntVector();
    const at::Tensor &x = saved[0], &weight = saved[1], dy = grads[0].contiguous();
    at::Tensor dx, dweight;
    LinearGradArgs a{x.defined() ? x.const_data_ptr<float>() : nullptr,
                     weight.const_data_ptr<float>(),
                     dy.const_data_ptr<float>(),
                     nullptr,
                     nullptr,
                     dy.size(0),
                     weight.size(1),
                     weight.size(0)};
    if (wanted[0]) {
      dx = at::empty({a.rows, a.in}, dy.options());
      a.dx = dx.mutable_data_ptr<float>();
      linear_input_gradient(cpu_context(), a);
    }
    if (wanted[1]) {
      dweight = at::empty_like(weight);
      a.dweight = dweight.mutable_data_ptr<float>();
      linear_weight_gradient(cpu_context(), a);
    }
    return {dx, dweight, wanted[2] ? dy : at::Tensor()};
  }
};

/// bfloat16 products by way of float32, rounded once, at the end.
struct WideLinear : Function<WideLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const Maybe& residual) {
    at::AutoDispatchBelowADInplaceOrView guard;
    remember(ctx, x, weight, residual);
    return wide_forward(x, weight, residual.value_or(at::Tensor()));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto wanted = ctx->saved_data["wanted"].toIntVector();
    const at::Tensor &x = saved[0], &weight = saved[1], &dy = grads[0];
    at::Tensor dx, dweight;
    if (wanted[0]) dx = wide_product(dy, weight);
    if (wanted[1]) dweight = wide_product(dy.t(), x);
    return {dx, dweight, wanted[2] ? dy : at::Tensor()};
  }
};

/// Elements of a weight up to which the tile products win: it stays in the second cache.
constexpr int64_t kSmallWeight = int64_t{1} << 16;

bool small(const at::Tensor& weight) {
  return weight.scalar_type() == at::kFloat && weight.is_contiguous() && weight.size(1) % 16 == 0 &&
         weight.numel() <= kSmallWeight;
}

template <class Product>
at::Tensor record(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  return Product::apply(x, weight, residual.defined() ? Maybe(residual) : std::nullopt);
}

}  // namespace

bool fast_bfloat16() {
#if defined(__x86_64__)
  static const bool fast = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool amx = d >> 22 & 1;
    const bool vectors = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    __get_cpuid(0, &a, &b, &c, &d);
    constexpr unsigned kAuthenticAmd = 0x68747541;  // "Auth"
    return amx || (vectors && b == kAuthenticAmd);
  }();
  return fast;
#else
  return true;
#endif
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  const bool records = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  if (small(weight)) {
    const at::Tensor rows = x.contiguous(), added = residual.defined() ? residual.contiguous() : residual;
    return records ? record<SmallLinear>(rows, weight, added) : forward_product(rows, weight, added);
  }
  if (x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 && !fast_bfloat16())
    return records ? record<WideLinear>(x, weight, residual) : wide_forward(x, weight, residual);
  return residual.defined() ? at::addmm(residual, x, weight.t()) : at::mm(x, weight.t());
}

}  // namespace fg::ops
