// Log-probs -> loss, its derivative by them, metrics: one thread per token.
#include "kernels/cuda/row_step.h"

namespace fg::cuda {
namespace {

constexpr int kThreads = 256;

struct Task {
  RowTask rows;
  const float *logps, *entropies;
  float *grad_logps, *grad_entropies;
};

FG_DEVICE void token(const Task& t, int64_t row, Partial& partial) {
  const RowPlan plan = load(t.rows.workspace.plan + row);
  float slope = 0, by_entropy = 0;
  if (plan.selected()) {
    RowSoftmaxOf<float> s{};
    s.logp = load(t.logps + row);
    if (t.entropies) s.entropy = load(t.entropies + row);
    slope = policy_step(t.rows, plan, load_inputs(t.rows, row, plan), s, true, RegisterTotal{partial});
    by_entropy = -entropy_weight(t.rows, s.entropy);
  }
  store(t.grad_logps + row, slope);
  if (t.grad_entropies) store(t.grad_entropies + row, by_entropy);
}

FG_KERNEL(kThreads, 1) policy_tokens(const Task t) {
  const FaultKey before = earlier_fault(t.rows.workspace, t.rows.segments);
  Partial partial = empty_partial();
  if (before == kNoFault)
    for (int64_t row = block() * kThreads + thread(); row < t.rows.rows; row += blocks() * kThreads)
      token(t, row, partial);
  FG_SHARED(Partial, total, 1);
  partial = block_total(partial);
  if (thread() == 0) total[0] = partial;
  finish(t.rows.workspace, block(), blocks(), total, before, t.rows.outcome, t.rows.sequences);
}

}  // namespace

Launch policy_loss(const Context& context, const LossParams& params, const kernels::PolicyLossArgs& a, void* workspace,
                   Outcome* outcome) {
  PrepareTask p;
  Task t{};
  set_policy(params, a.batch, &p, &t.rows);
  p.logps = a.logps;
  p.entropies = a.entropies;
  p.workspace = t.rows.workspace = carve(workspace, a.batch.layout.rows);
  t.rows.entropy = a.entropies != nullptr;
  t.rows.outcome = outcome;
  t.logps = a.logps, t.entropies = a.entropies;
  t.grad_logps = a.grad_logps, t.grad_entropies = a.grad_entropies;
  const Launch first = prepare(context.stream, p, &t.rows.segments);
  if (!first.ok()) return first;
  if (kernels::two_phases(params, a.batch)) {
    const TokenArrays arrays{a.logps, a.entropies, a.grad_logps, a.grad_entropies};
    const double coef = a.batch.entropy_coef;
    const Launch chosen = choose_tokens(context.stream, t.rows, arrays, coef);
    return chosen.ok() ? sequence_steps(context.stream, t.rows, a.batch.layout, arrays, coef) : chosen;
  }
  Shape shape;
  shape.threads = kThreads;
  const int64_t blocks = (t.rows.rows + kThreads - 1) / kThreads;
  shape.blocks = blocks < 1 ? 1 : blocks > kMaxPartials ? kMaxPartials : blocks;
  return FG_LAUNCH(policy_tokens, shape, context.stream, t);
}

}  // namespace fg::cuda
