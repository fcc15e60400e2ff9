#include "torch/model/recompute.h"

namespace fg::ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Recipe : torch::CustomClassHolder {
  explicit Recipe(std::function<at::Tensor(const at::Tensor&)> f) : fn(std::move(f)) {}
  std::function<at::Tensor(const at::Tensor&)> fn;
};

/// `anchor` requires a gradient, so that the result does even where x does not (a frozen embedding).
struct Recompute : Function<Recompute> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& anchor,
                            const c10::intrusive_ptr<Recipe>& recipe) {
    ctx->save_for_backward({x});
    ctx->saved_data["recipe"] = c10::IValue::make_capsule(recipe);
    ctx->saved_data["wants_x"] = x.requires_grad();
    return recipe->fn(x);  // autograd is off inside a Function's forward
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::AutoGradMode record(true);
    const at::Tensor x = ctx->get_saved_variables()[0].detach().set_requires_grad(ctx->saved_data["wants_x"].toBool());
    const auto recipe = c10::static_intrusive_pointer_cast<Recipe>(ctx->saved_data["recipe"].toCapsule());
    torch::autograd::backward({recipe->fn(x)}, {grads[0]});
    return {x.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> fn) {
  const at::Tensor anchor = at::empty({0}, at::TensorOptions().dtype(at::kFloat)).set_requires_grad(true);
  return Recompute::apply(x, anchor, c10::make_intrusive<Recipe>(std::move(fn)));
}

}  // namespace fg::ops
