// Attention over packed rows as a differentiable operation.
#include "kernels/attention.h"

#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/model/ops.h"

namespace fg::ops {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// A row of the tensor is a segment.
static_assert(sizeof(Segment) == 3 * sizeof(int64_t));
const Segment* segments_in(const at::Tensor& t) {
  return reinterpret_cast<const Segment*>(t.const_data_ptr<int64_t>());
}

AttentionArgs attention_args(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& segments,
                             const HeadParams& heads, const AttentionParams& p) {
  TORCH_CHECK(q.is_contiguous() && k.is_contiguous() && v.is_contiguous() && segments.is_contiguous(),
              "attention: bad shapes");
  AttentionArgs a{};
  a.segments = segments_in(segments);
  a.count = segments.size(0);
  a.q = q.const_data_ptr();
  a.k = k.const_data_ptr();
  a.v = v.const_data_ptr();
  a.heads = heads.heads;
  a.kv_heads = heads.kv_heads;
  a.dim = heads.dim;
  a.window = p.window;
  a.scale = static_cast<float>(p.scale);
  a.dtype = dtype_of(q);
  return a;
}

struct Attention : Function<Attention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& segments, const HeadParams& heads, const AttentionParams& p) {
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor out = at::empty_like(q), lse = at::empty({q.size(0), heads.heads}, at::kFloat);
    AttentionArgs a = attention_args(q, k, v, segments, heads, p);
    a.out = out.mutable_data_ptr();
    a.lse = lse.mutable_data_ptr<float>();
    attention_forward(cpu_context(), a);
    ctx->save_for_backward({q, k, v, segments, out, lse});
    ctx->saved_data["ints"] = std::vector<int64_t>{heads.heads, heads.kv_heads, heads.dim, p.window};
    ctx->saved_data["scale"] = p.scale;
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto n = ctx->saved_data["ints"].toIntVector();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], dout = grads[0].contiguous();
    AttentionGradArgs g{};
    g.forward =
        attention_args(q, k, v, saved[3], {n[0], n[1], n[2], 0, 0}, {n[3], ctx->saved_data["scale"].toDouble()});
    g.forward.out = saved[4].mutable_data_ptr();
    g.forward.lse = saved[5].mutable_data_ptr<float>();
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    const at::Tensor scratch = at::empty({attention_workspace(g.forward)}, at::kFloat);
    g.dout = dout.const_data_ptr();
    g.dq = dq.mutable_data_ptr();
    g.dk = dk.mutable_data_ptr();
    g.dv = dv.mutable_data_ptr();
    g.workspace = scratch.mutable_data_ptr<float>();
    attention_backward(cpu_context(), g);
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

RowMap row_map(const std::vector<int64_t>& positions, const std::vector<Segment>& segments) {
  RowMap map{at::tensor(positions, at::kLong), at::empty({static_cast<int64_t>(segments.size()), 3}, at::kLong), 0};
  std::copy(segments.begin(), segments.end(), reinterpret_cast<Segment*>(map.segments.mutable_data_ptr<int64_t>()));
  for (const int64_t p : positions) map.longest = std::max(map.longest, p + 1);
  return map;
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const RowMap& rows,
                     const HeadParams& heads, const AttentionParams& params) {
  if (at::GradMode::is_enabled() && q.requires_grad()) return Attention::apply(q, k, v, rows.segments, heads, params);
  at::Tensor out = at::empty_like(q);
  AttentionArgs a = attention_args(q, k, v, rows.segments, heads, params);
  a.out = out.mutable_data_ptr();
  attention_forward(cpu_context(), a);
  return out;
}

}  // namespace fg::ops
