// Products with small weights as a differentiable operation.
#include "kernels/linear.h"

#include "torch/cpu_context.h"
#include "torch/model/ops.h"

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

struct SmallLinear : Function<SmallLinear> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const Maybe& residual) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, weight});
    ctx->saved_data["wanted"] = std::vector<int64_t>{x.requires_grad(), weight.requires_grad(), residual.has_value()};
    return forward_product(x, weight, residual.value_or(at::Tensor()));
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto wanted = ctx->saved_data["wanted"].toIntVector();
    const at::Tensor &x = saved[0], &weight = saved[1], dy = grads[0].contiguous();
    at::Tensor dx, dweight;
    LinearGradArgs a{x.const_data_ptr<float>(),
                     weight.const_data_ptr<float>(),
                     dy.const_data_ptr<float>(),
                     nullptr,
                     nullptr,
                     x.size(0),
                     weight.size(1),
                     weight.size(0)};
    if (wanted[0]) {
      dx = at::empty_like(x);
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

}  // namespace

bool small_linear(const at::Tensor& weight) {
  static const char* wanted = std::getenv("FG_SMALL");
  static const int64_t kLargest = wanted ? std::atoll(wanted) : int64_t{1} << 16;
  return weight.scalar_type() == at::kFloat && weight.is_contiguous() && weight.size(1) % 16 == 0 &&
         weight.numel() <= kLargest;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual) {
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad()))
    return SmallLinear::apply(x.contiguous(), weight, residual.defined() ? Maybe(residual.contiguous()) : std::nullopt);
  return forward_product(x.contiguous(), weight, residual.defined() ? residual.contiguous() : residual);
}

}  // namespace fg::ops
