#include "torch/model/ops.h"

#include <algorithm>

#include "torch/cpu_context.h"
#include "torch/dtype.h"

namespace fg::ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

const void* data_or_null(const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }
float* floats_or_null(const at::Tensor& t) { return t.defined() ? t.mutable_data_ptr<float>() : nullptr; }
bool records(const at::Tensor& a, const at::Tensor& b) {
  return at::GradMode::is_enabled() && (a.requires_grad() || (b.defined() && b.requires_grad()));
}
// Function::apply refuses an undefined tensor, but takes an absent one.
using Maybe = std::optional<at::Tensor>;
Maybe maybe(const at::Tensor& t) { return t.defined() ? Maybe(t) : std::nullopt; }
at::Tensor float_scratch(int64_t n) { return at::empty({n}, at::kFloat); }

// ---- norm
// ----------------------------------------------------------------------------------------------------------------------------
NormArgs norm_args(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const NormParams& p) {
  TORCH_CHECK(x.dim() == 2 && x.stride(1) == 1 && weight.numel() == x.size(1) && weight.is_contiguous(),
              "norm: bad shapes");
  NormArgs a{};
  a.x = x.const_data_ptr();
  a.weight = weight.const_data_ptr();
  a.bias = data_or_null(bias);
  a.rows = x.size(0);
  a.width = x.size(1);
  a.x_stride = x.stride(0);
  a.eps = static_cast<float>(p.eps);
  a.weight_offset = static_cast<float>(p.weight_offset);
  a.center = p.center;
  a.dtype = dtype_of(x);
  return a;
}

struct Norm : Function<Norm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const Maybe& maybe_bias, const NormParams& p) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    NormArgs a = norm_args(x, weight, bias, p);
    at::Tensor y = at::empty({a.rows, a.width}, x.options()), rstd = float_scratch(a.rows), mean;
    if (p.center) mean = float_scratch(a.rows);
    a.y = y.mutable_data_ptr();
    a.rstd = floats_or_null(rstd);
    a.mean = floats_or_null(mean);
    norm_forward(cpu_context(), a);
    ctx->save_for_backward({x, weight, bias, rstd, mean});
    ctx->saved_data["eps"] = p.eps;
    ctx->saved_data["offset"] = p.weight_offset;
    ctx->saved_data["center"] = p.center;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], dy = grads[0].contiguous();
    NormGradArgs g{};
    g.forward = norm_args(
        x, weight, bias,
        {ctx->saved_data["eps"].toDouble(), ctx->saved_data["offset"].toDouble(), ctx->saved_data["center"].toBool()});
    g.forward.rstd = floats_or_null(saved[3]);
    g.forward.mean = floats_or_null(saved[4]);
    at::Tensor dx = at::empty({x.size(0), x.size(1)}, x.options()), dw = at::empty_like(weight), db;
    if (bias.defined()) db = at::empty_like(bias);
    const at::Tensor scratch = float_scratch(norm_workspace(x.size(0), x.size(1)));
    g.dy = dy.const_data_ptr();
    g.dx = dx.mutable_data_ptr();
    g.dweight = dw.mutable_data_ptr();
    g.dbias = db.defined() ? db.mutable_data_ptr() : nullptr;
    g.workspace = scratch.mutable_data_ptr<float>();
    norm_backward(cpu_context(), g);
    return {dx, dw, db, at::Tensor()};
  }
};

// ---- heads
// ---------------------------------------------------------------------------------------------------------------------------
RopeArgs rope_args(const at::Tensor& qkv, const at::Tensor& q_norm, const at::Tensor& k_norm,
                   const at::Tensor& positions, const HeadParams& p, const at::Tensor& cos, const at::Tensor& sin) {
  TORCH_CHECK(qkv.is_contiguous() && qkv.size(1) == (p.heads + 2 * p.kv_heads) * p.dim, "split_heads: bad shapes");
  RopeArgs a{};
  a.qkv = qkv.const_data_ptr();
  a.positions = positions.const_data_ptr<int64_t>();
  a.cos = floats_or_null(cos);
  a.sin = floats_or_null(sin);
  a.q_norm = data_or_null(q_norm);
  a.k_norm = data_or_null(k_norm);
  a.rows = qkv.size(0);
  a.heads = p.heads;
  a.kv_heads = p.kv_heads;
  a.dim = p.dim;
  a.eps = static_cast<float>(p.eps);
  a.weight_offset = static_cast<float>(p.weight_offset);
  a.dtype = dtype_of(qkv);
  return a;
}

/// Makes q, k and v and fills them; `rstd` is filled when defined.
variable_list run_split(RopeArgs a, const at::Tensor& qkv, const at::Tensor& rstd) {
  auto make = [&](int64_t heads) { return at::empty({a.rows, heads * a.dim}, qkv.options()); };
  at::Tensor q = make(a.heads), k = make(a.kv_heads), v = make(a.kv_heads);
  a.q = q.mutable_data_ptr();
  a.k = k.mutable_data_ptr();
  a.v = v.mutable_data_ptr();
  a.rstd = floats_or_null(rstd);
  rope_forward(cpu_context(), a);
  return {q, k, v};
}

struct HeadState {  // what backward needs besides tensors; kept alive by the graph
  at::Tensor positions;
  HeadParams params;
  at::Tensor cos, sin;
};

struct SplitHeads : Function<SplitHeads> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& qkv, const Maybe& maybe_q_norm,
                               const Maybe& maybe_k_norm, const HeadState& state) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor q_norm = maybe_q_norm.value_or(at::Tensor()), k_norm = maybe_k_norm.value_or(at::Tensor());
    const HeadParams& p = state.params;
    const at::Tensor rstd = q_norm.defined() ? float_scratch(qkv.size(0) * (p.heads + p.kv_heads)) : at::Tensor();
    // The input is needed again only for the head norms.
    const at::Tensor kept = q_norm.defined() ? qkv : at::Tensor();
    ctx->save_for_backward({kept, q_norm, k_norm, rstd, state.cos, state.sin, state.positions});
    ctx->saved_data["ints"] = std::vector<int64_t>{p.heads, p.kv_heads, p.dim};
    ctx->saved_data["floats"] = std::vector<double>{p.eps, p.weight_offset};
    return run_split(rope_args(qkv, q_norm, k_norm, state.positions, p, state.cos, state.sin), qkv, rstd);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto n = ctx->saved_data["ints"].toIntVector();
    const auto f = ctx->saved_data["floats"].toDoubleVector();
    const HeadParams p{n[0], n[1], n[2], f[0], f[1]};
    for (auto& grad : grads) grad = grad.contiguous();
    const int64_t rows = grads[0].size(0);
    at::Tensor dqkv = at::empty({rows, (p.heads + 2 * p.kv_heads) * p.dim}, grads[0].options()), dq_norm, dk_norm,
               scratch;
    RopeGradArgs g{};
    g.forward = rope_args(saved[0].defined() ? saved[0] : dqkv, saved[1], saved[2], saved[6], p, saved[4], saved[5]);
    g.forward.rstd = floats_or_null(saved[3]);
    g.dq = grads[0].const_data_ptr();
    g.dk = grads[1].const_data_ptr();
    g.dv = grads[2].const_data_ptr();
    g.dqkv = dqkv.mutable_data_ptr();
    if (saved[1].defined()) {
      dq_norm = at::empty_like(saved[1]);
      dk_norm = at::empty_like(saved[2]);
      scratch = float_scratch(rope_workspace(rows, p.dim));
      g.dq_norm = dq_norm.mutable_data_ptr();
      g.dk_norm = dk_norm.mutable_data_ptr();
      g.workspace = scratch.mutable_data_ptr<float>();
    }
    rope_backward(cpu_context(), g);
    return {dqkv, dq_norm, dk_norm, at::Tensor()};
  }
};

// ---- activation
// ----------------------------------------------------------------------------------------------------------------------
ActivationArgs activation_args(const at::Tensor& x, Activation activation, bool gated) {
  TORCH_CHECK(x.dim() == 2 && x.is_contiguous(), "activate: bad shapes");
  return {x.const_data_ptr(), nullptr, nullptr,    x.size(0), gated ? x.size(1) / 2 : x.size(1),
          activation,         gated,   dtype_of(x)};
}

at::Tensor run_activation(const at::Tensor& x, Activation activation, bool gated) {
  ActivationArgs a = activation_args(x, activation, gated);
  at::Tensor y = at::empty({a.rows, a.width}, x.options());
  a.y = y.mutable_data_ptr();
  activation_forward(cpu_context(), a);
  return y;
}

struct Activate : Function<Activate> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t activation, bool gated) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    ctx->saved_data["activation"] = activation;
    ctx->saved_data["gated"] = gated;
    return run_activation(x, static_cast<Activation>(activation), gated);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    ActivationArgs a = activation_args(x, static_cast<Activation>(ctx->saved_data["activation"].toInt()),
                                       ctx->saved_data["gated"].toBool());
    at::Tensor dx = at::empty_like(x);
    a.dy = dy.const_data_ptr();
    a.y = dx.mutable_data_ptr();
    activation_backward(cpu_context(), a);
    return {dx, at::Tensor(), at::Tensor()};
  }
};

// ---- join
// ----------------------------------------------------------------------------------------------------------------------------
struct Join : Function<Join> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& a, const at::Tensor& b, const Maybe& c,
                            const at::Tensor& whole) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["sizes"] = std::vector<int64_t>{a.size(0), b.size(0), c ? c->size(0) : 0};
    return at::alias(whole);  // not `whole` itself: an output that is an input would be copied
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const at::Tensor grad = grads[0].contiguous();
    variable_list out{grad.narrow(0, 0, sizes[0]), grad.narrow(0, sizes[0], sizes[1])};
    out.push_back(sizes[2] ? grad.narrow(0, sizes[0] + sizes[1], sizes[2]) : at::Tensor());
    out.emplace_back();
    return out;
  }
};

}  // namespace

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const NormParams& params) {
  if (records(x, weight) || records(x, bias)) return Norm::apply(x, weight, maybe(bias), params);
  NormArgs a = norm_args(x, weight, bias, params);
  at::Tensor y = at::empty({a.rows, a.width}, x.options());
  a.y = y.mutable_data_ptr();
  norm_forward(cpu_context(), a);
  return y;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> split_heads(const at::Tensor& qkv, const at::Tensor& q_norm,
                                                           const at::Tensor& k_norm, const RowMap& rows,
                                                           const HeadParams& params, const RopeTable* rope) {
  const at::Tensor cos = rope ? rope->cos_tensor() : at::Tensor(), sin = rope ? rope->sin_tensor() : at::Tensor();
  const variable_list out =
      records(qkv, q_norm) || records(qkv, k_norm)
          ? SplitHeads::apply(qkv, maybe(q_norm), maybe(k_norm), HeadState{rows.positions, params, cos, sin})
          : run_split(rope_args(qkv, q_norm, k_norm, rows.positions, params, cos, sin), qkv, {});
  return {out[0], out[1], out[2]};
}

at::Tensor activate(const at::Tensor& x, Activation activation, bool gated) {
  if (at::GradMode::is_enabled() && x.requires_grad())
    return Activate::apply(x, static_cast<int64_t>(activation), gated);
  return run_activation(x, activation, gated);
}

at::Tensor join(const std::vector<at::Tensor>& parts, const at::Tensor& whole) {
  if (parts.size() == 1) return parts[0];
  const bool trained = std::any_of(parts.begin(), parts.end(), [](const at::Tensor& t) { return t.requires_grad(); });
  if (!at::GradMode::is_enabled() || !trained) return whole;
  return Join::apply(parts[0], parts[1], parts.size() > 2 ? Maybe(parts[2]) : std::nullopt, whole);
}

}  // namespace fg::ops
