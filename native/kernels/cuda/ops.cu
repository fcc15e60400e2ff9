// The vocabulary-sized ops: prepare, then one launch over the rows.
#include "kernels/cuda/rows.h"

namespace fg::cuda {
namespace {

constexpr double kLog2e = 1.44269504088896340736;

PrepareTask prepare_task(const Layout& layout, const Rows& logits, const Rows& grad, const int32_t* targets,
                         void* workspace) {
  PrepareTask p;
  p.layout = layout;
  p.logits = logits;
  p.grad = grad;
  p.targets = targets;
  p.workspace = carve(workspace, layout.rows);
  return p;
}

RowTask row_task(const PrepareTask& p, Step step, double temperature, Outcome* outcome) {
  RowTask t;
  t.logits = p.logits;
  t.grad = p.grad;
  t.rows = p.layout.rows;
  t.sequences = p.layout.sequences;
  t.step = step;
  t.temperature = float(temperature);
  t.scale = float(kLog2e / temperature);
  t.outcome = outcome;
  t.workspace = p.workspace;
  return t;
}

Launch run(void* stream, const PrepareTask& p, RowTask t) {
  const Launch first = prepare(stream, p, &t.segments);
  return first.ok() ? launch_rows(stream, t) : first;
}

/// Log-probs of all rows, what the tokens' losses make of them, then the gradient: two reads of the logits.
Launch run_in_two_phases(void* stream, const PrepareTask& p, RowTask t, double entropy_coef) {
  const Workspace& w = t.workspace;
  const bool has_gradient = t.grad.data != nullptr;
  Launch l = prepare(stream, p, &t.segments);
  RowTask reading = t;
  reading.step = Step::log_prob;
  reading.grad = Rows{};
  if (!t.logps) reading.logps = w.logps;
  if (!t.entropies && t.entropy) reading.entropies = w.entropies;
  if (l.ok()) l = launch_rows(stream, reading);
  const bool entropy_term = t.entropy_weight != 0 || entropy_coef != 0;
  const TokenArrays arrays{reading.logps, reading.entropies, w.grad_logps, entropy_term ? w.grad_entropies : nullptr};
  if (l.ok()) l = choose_tokens(stream, t, arrays, entropy_coef);
  if (l.ok()) l = sequence_steps(stream, t, p.layout, arrays, entropy_coef);
  if (!l.ok() || !has_gradient) return l;
  t.step = Step::given;
  t.entropy = entropy_term;
  t.grad_logps = arrays.grad_logps, t.grad_entropies = arrays.grad_entropies;
  t.logps = t.lse = t.entropies = nullptr;  // written by the first launch
  t.outcome = nullptr;
  return launch_rows(stream, t);
}

}  // namespace

Launch selective_logp(const Context& context, const kernels::SelectiveLogpArgs& a, void* workspace, Outcome* outcome) {
  const PrepareTask p = prepare_task(a.layout, a.logits, Rows{}, a.targets, workspace);
  RowTask t = row_task(p, Step::log_prob, a.temperature, outcome);
  t.entropy = a.entropies != nullptr;
  t.logps = a.logps, t.lse = a.lse, t.entropies = a.entropies;
  return run(context.stream, p, t);
}

Launch selective_logp_backward(const Context& context, const kernels::SelectiveLogpBackwardArgs& a, void* workspace,
                               Outcome* outcome) {
  PrepareTask p = prepare_task(a.layout, a.logits, a.grad, a.targets, workspace);
  p.grad_logps = a.grad_logps;
  p.grad_entropies = a.grad_entropies;
  RowTask t = row_task(p, Step::given, a.temperature, outcome);
  t.entropy = a.grad_entropies != nullptr;
  t.grad_logps = a.grad_logps;
  t.grad_entropies = a.grad_entropies;
  return run(context.stream, p, t);
}

Launch grpo_loss(const Context& context, const LossParams& params, const kernels::GrpoLossArgs& a,
                 const GroupAdvantagesArgs* rewards, void* workspace, Outcome* outcome) {
  PrepareTask p = prepare_task(a.batch.layout, a.logits, a.grad, a.targets, workspace);
  RowTask t = row_task(p, Step::policy, a.temperature, outcome);
  set_policy(params, a.batch, &p, &t);
  if (rewards) {
    p.rewards = *rewards;
    p.advantages = nullptr;  // they are made, not checked
  }
  t.entropy = a.want_entropy || a.entropies || a.batch.has_entropy_term() || has_entropy_mask(params);
  t.logps = a.logps, t.lse = a.lse, t.entropies = a.entropies;
  return kernels::two_phases(params, a.batch) ? run_in_two_phases(context.stream, p, t, a.batch.entropy_coef)
                                              : run(context.stream, p, t);
}

}  // namespace fg::cuda
