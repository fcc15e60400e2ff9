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
  p.workspace = carve(workspace);
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
  t.entropy = a.want_entropy || a.entropies || a.batch.entropy_weight != 0;
  t.logps = a.logps, t.lse = a.lse, t.entropies = a.entropies;
  return run(context.stream, p, t);
}

}  // namespace fg::cuda
