// Each op on a Case, on the host or on the device.
#include <algorithm>

#include "cases.h"

namespace fg::check {
namespace {

const Context kHost{[](int64_t n, int64_t chunk, RangeBody body, void* state) {
                      for (int64_t i = 0; i < n; i += chunk) body(state, i, std::min(i + chunk, n));
                    },
                    nullptr};

const float kPoison = -12345.0f;
std::vector<float> poisoned(int64_t n) { return std::vector<float>(size_t(n), kPoison); }

Rows with(Rows r, unsigned char* memory, int64_t base) {
  r.data = memory + base * size_of(r.dtype);
  return r;
}

/// The gradient's rows: a matrix of its own, or the logits' memory.
Rows place_grad(const Case& c, Place& p, bool in_place, Rows* logits, Result* r) {
  if (in_place) {
    r->grad = c.logits;
    *logits = with(c.shape, p.out(&r->grad), c.base);
    return *logits;
  }
  r->grad = c.grad;
  *logits = with(c.shape, p.in(c.logits), c.base);
  return with(c.grad_shape, p.out(&r->grad), c.grad_base);
}

/// Of SelectiveLogpArgs and GrpoLossArgs: what the forward pass reads and writes beside the matrix.
template <class Args>
void place_forward(const Case& c, Place& p, Args* a, Result* r) {
  r->logps = poisoned(c.rows), r->lse = poisoned(c.rows);
  if (c.entropy) r->entropies = poisoned(c.rows);
  a->targets = p.in(c.targets), a->temperature = c.temperature;
  a->logps = p.out(&r->logps), a->lse = p.out(&r->lse), a->entropies = p.out(&r->entropies);
}

PolicyBatch batch(const Case& c, Place& p) {
  PolicyBatch b;
  b.layout = c.layout(p), b.old_logps = p.in(c.old_logps), b.ref_logps = p.in(c.ref_logps);
  b.sampler_logps = p.in(c.sampler_logps);
  b.advantages = p.in(c.advantages), b.advantages_per_token = c.per_token;
  b.normalizer = c.normalizer, b.entropy_weight = c.entropy_weight;
  return b;
}

cuda::GroupAdvantagesArgs advantages_args(const Case& c, Place& p, Result* r) {
  const int64_t groups = int64_t(c.groups.size()) - 1;
  r->advantages = poisoned(c.sequences), r->mean = poisoned(groups), r->std = poisoned(groups);
  r->zero_std.assign(size_t(groups), 77);
  cuda::GroupAdvantagesArgs g;
  g.rewards = p.in(c.rewards), g.count = c.sequences, g.group_offsets = p.in(c.groups), g.groups = groups;
  g.options = c.options, g.advantages = p.out(&r->advantages);
  g.mean = p.out(&r->mean), g.std = p.out(&r->std), g.zero_std = p.out(&r->zero_std);
  return g;
}

Status host_advantages(const cuda::GroupAdvantagesArgs& g) {
  std::vector<double> workspace(group_advantages_workspace(g.count) / 8 + 1);
  return group_advantages(g.rewards, g.count, g.group_offsets, g.groups, g.options, g.advantages, g.mean, g.std,
                          g.zero_std, workspace.data());
}

/// The ops whose scratch on the host is a Fault per row.
template <class Args>
Status run_rows(Place& p, Args a, Status (*on_host)(const Context&, const Args&),
                cuda::Launch (*on_device)(const Context&, const Args&, void*, cuda::Outcome*)) {
  std::vector<Fault> faults(static_cast<size_t>(a.layout.rows));
  a.faults = faults.data();
  if (!p.device) return on_host(kHost, a);
  return p.run(a.layout.rows, [&](void* w, cuda::Outcome* o) { return on_device(kStream, a, w, o); }).status;
}

/// The ops that give metrics and whose scratch on the host is a TokenRecord per row; `launch(a, workspace, outcome)`.
template <class Args, class Launching>
void run_loss(const Case& c, Place& p, Args a, Result* r,
              Status (*on_host)(const Context&, const LossParams&, const Args&, PolicyMetrics*), Launching launch) {
  std::vector<TokenRecord> records(static_cast<size_t>(c.rows));
  a.records = records.data();
  if (!p.device) {
    r->status = on_host(kHost, c.params, a, &r->metrics);
    return;
  }
  const cuda::Outcome found = p.run(c.rows, [&](void* w, cuda::Outcome* o) { return launch(a, w, o); });
  r->status = found.status, r->metrics = found.metrics;
}

}  // namespace

Result run_logp(const Case& c, bool device) {
  Place p(device);
  Result r;
  SelectiveLogpArgs a;
  a.layout = c.layout(p), a.logits = with(c.shape, p.in(c.logits), c.base);
  place_forward(c, p, &a, &r);
  r.status = run_rows(p, a, selective_logp, cuda::selective_logp);
  return r;
}

Result run_backward(const Case& c, bool device, bool in_place) {
  Place p(device);
  Result r;
  SelectiveLogpBackwardArgs a;
  a.layout = c.layout(p), a.targets = p.in(c.targets), a.temperature = c.temperature;
  a.grad = place_grad(c, p, in_place, &a.logits, &r);
  a.grad_logps = p.in(c.grad_logps), a.grad_entropies = p.in(c.grad_entropies);
  r.status = run_rows(p, a, selective_logp_backward, cuda::selective_logp_backward);
  return r;
}

Result run_policy(const Case& c, bool device) {
  Place p(device);
  Result r;
  r.grad_logps = poisoned(c.rows);
  if (c.entropy_weight != 0) r.grad_entropies = poisoned(c.rows);
  PolicyLossArgs a;
  a.batch = batch(c, p), a.logps = p.in(c.logps), a.entropies = p.in(c.entropies);
  a.grad_logps = p.out(&r.grad_logps), a.grad_entropies = p.out(&r.grad_entropies);
  run_loss(c, p, a, &r, policy_loss, [&](const PolicyLossArgs& args, void* w, cuda::Outcome* o) {
    return cuda::policy_loss(kStream, c.params, args, w, o);
  });
  return r;
}

Result run_advantages(const Case& c, bool device) {
  Place p(device);
  Result r;
  const cuda::GroupAdvantagesArgs g = advantages_args(c, p, &r);
  const auto launch = [&](void* w, cuda::Outcome* o) { return cuda::group_advantages(kStream, g, w, o); };
  r.status = device ? p.run(c.sequences, launch).status : host_advantages(g);
  return r;
}

Result run_grpo(const Case& c, bool device, bool in_place) {
  Place p(device);
  Result r;
  GrpoLossArgs a;
  a.batch = batch(c, p), a.grad = place_grad(c, p, in_place, &a.logits, &r), a.want_entropy = c.entropy;
  place_forward(c, p, &a, &r);
  cuda::GroupAdvantagesArgs g;
  if (c.fused()) g = advantages_args(c, p, &r), a.batch.advantages = g.advantages;
  if (c.fused() && !device && !(r.status = host_advantages(g)).ok()) return r;
  run_loss(c, p, a, &r, grpo_loss, [&](const GrpoLossArgs& args, void* w, cuda::Outcome* o) {
    return cuda::grpo_loss(kStream, c.params, args, c.fused() ? &g : nullptr, w, o);
  });
  return r;
}

}  // namespace fg::check
