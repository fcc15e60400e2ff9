#include "torch/model/low_rank.h"

#include <algorithm>
#include <optional>

#include "torch/model/ops.h"

namespace fg::ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Maybe = std::optional<at::Tensor>;

at::Tensor wide(const at::Tensor& t) { return t.to(at::kFloat); }

at::Tensor part_of(const at::Tensor& rows, const LowRankPart& p) { return rows.narrow(1, p.begin, p.b.size(0)); }

/// y += scale (u B^T) part by part; returns u = x A^T (rows, parts r).
at::Tensor add_products(const at::Tensor& y, const at::Tensor& x, const LowRank& l) {
  const at::Tensor u = ops::linear(wide(x), l.joint_a, {});
  int64_t at = 0;
  for (const LowRankPart& p : l.parts) {
    const int64_t r = p.a.size(0);
    at::Tensor out = part_of(y, p);
    const at::Tensor mine = u.narrow(1, at, r), columns = p.b.t();
    if (out.scalar_type() == at::kFloat)
      out.addmm_(mine, columns, 1, l.scale);
    else
      out.add_(at::mm(mine, columns), l.scale);
    at += r;
  }
  return u;
}

/// The leaves are inputs, so that autograd hands them their gradients; `shape` says what they are.
struct AddLowRank : Function<AddLowRank> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& y, const at::Tensor& x, const at::Tensor& a0,
                            const at::Tensor& b0, const Maybe& a1, const Maybe& b1, const Maybe& a2, const Maybe& b2,
                            const LowRank& l) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const at::Tensor u = add_products(y, x, l);
    ctx->mark_dirty({y});
    variable_list kept{x, u, l.joint_a};
    std::vector<int64_t> begins;
    for (const LowRankPart& p : l.parts) kept.push_back(p.b), begins.push_back(p.begin);
    ctx->save_for_backward(kept);
    ctx->saved_data["begins"] = begins;
    ctx->saved_data["scale"] = l.scale;
    ctx->saved_data["wants_x"] = x.requires_grad();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto begins = ctx->saved_data["begins"].toIntVector();
    const double scale = ctx->saved_data["scale"].toDouble();
    const at::Tensor &x = saved[0], &u = saved[1], &joint_a = saved[2], &dy = grads[0];
    variable_list out(9);
    out[0] = dy;
    const int64_t r = joint_a.size(0) / static_cast<int64_t>(begins.size());
    at::Tensor du = at::empty_like(u);
    for (size_t i = 0; i < begins.size(); ++i) {
      const at::Tensor& b = saved[3 + i];
      const at::Tensor g = wide(dy.narrow(1, begins[i], b.size(0)));
      const auto at = static_cast<int64_t>(i) * r;
      out[3 + 2 * i] = at::mm(g.t(), u.narrow(1, at, r)).mul_(scale);
      du.narrow(1, at, r).copy_(at::mm(g, b).mul_(scale));
    }
    const at::Tensor da = at::mm(du.t(), wide(x));
    for (size_t i = 0; i < begins.size(); ++i) out[2 + 2 * i] = da.narrow(0, static_cast<int64_t>(i) * r, r);
    if (ctx->saved_data["wants_x"].toBool()) out[1] = at::mm(du, joint_a).to(x.scalar_type());
    return out;
  }
};

}  // namespace

at::Tensor add_low_rank(const at::Tensor& y, const at::Tensor& x, const LowRank& l) {
  const auto& p = l.parts;
  const bool trained =
      std::any_of(p.begin(), p.end(), [](const LowRankPart& q) { return q.a.requires_grad() || q.b.requires_grad(); });
  if (!at::GradMode::is_enabled() || !(trained || x.requires_grad() || y.requires_grad())) {
    add_products(y, x, l);
    return y;
  }
  const auto a = [&](size_t i) { return i < p.size() ? Maybe(p[i].a) : std::nullopt; };
  const auto b = [&](size_t i) { return i < p.size() ? Maybe(p[i].b) : std::nullopt; };
  return AddLowRank::apply(y, x, p[0].a, p[0].b, a(1), b(1), a(2), b(2), l);
}

at::Tensor merged_weight(const at::Tensor& weight, bool transposed, const LowRank& l, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  at::Tensor sum = weight.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor rows = transposed ? sum.t() : sum;  // (out, in)
  for (const LowRankPart& p : l.parts) rows.narrow(0, p.begin, p.b.size(0)).addmm_(p.b, p.a, 1, l.scale);
  return sum.to(dtype);
}

}  // namespace fg::ops
