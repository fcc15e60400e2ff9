// The policy loss where a token depends on others: one block per sequence sums over it, then gives each token what its
// sequence shares.
#include "kernels/cuda/row_step.h"
#include "math/sequence_sums.h"

namespace fg::cuda {
namespace {

constexpr int kThreads = 256;

struct Task {
  RowTask rows;
  const int32_t* offsets;
  TokenArrays arrays;
  bool chosen;  // by choose_tokens()
};

FG_DEVICE SequenceSums block_sums(const SequenceSums& s) {
  return {block_sum(s.length), block_sum(s.kept),    block_sum(s.log_ratio),
          block_sum(s.shared), block_sum(s.sampler), block_sum(s.drift)};
}

FG_DEVICE TokenValues<float> values_of(const Task& t, int64_t row, const RowPlan& plan, const BatchChoice& choice) {
  const float logp = load(t.arrays.logps + row);
  const float old = t.rows.old_logps ? load(t.rows.old_logps + row) : logp;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float sampler = t.rows.sampler_logps ? load(t.rows.sampler_logps + row) : nan;
  const float advantage = load(t.rows.advantages + (t.rows.advantages_per_token ? row : plan.sequence));
  const float entropy = t.arrays.entropies ? load(t.arrays.entropies + row) : 0.0f;
  return {t.rows.old_logps ? logp - old : 0.0f, logp, old, sampler, advantage, entropy >= choice.entropy_threshold};
}

/// The token's loss joins the block's total, its own derivative is stored; the result is its part of what the sequence
/// shares.
FG_DEVICE double token(const Task& t, int64_t row, const BatchChoice& choice, const SequenceValues<float>& sequence,
                       Partial& total) {
  const RowPlan plan = load(t.rows.workspace.plan + row);
  if (!plan.selected()) {
    store(t.arrays.grad_logps + row, 0.0f);
    if (t.arrays.grad_entropies) store(t.arrays.grad_entropies + row, 0.0f);
    return 0;
  }
  const LossParams& p = t.rows.params;
  const TokenValues<float> v = values_of(t, row, plan, choice);
  const float ref = p.beta != 0 ? load(t.rows.ref_logps + row) : 0.0f;
  const bool chosen = chooses_by_covariance(p.loss_type) && load(t.rows.workspace.chosen + row) != 0;
  const auto s = sequence_token_loss<float>(p, sequence, v, ref, token_factor(p, sequence, v), chosen);
  const float weight = v.kept ? choice.entropy_weight : 0.0f;
  const float entropy = t.arrays.entropies ? load(t.arrays.entropies + row) : 0.0f;
  const double loss = double(plan.weight) * s.token.loss.value - double(weight) * entropy;
  const double kl = s.token.kl.value, ratio = s.token.ratio.value;
  add(total, Partial{loss, kl, entropy, ratio, ratio, ratio, 1, s.token.clipped_low, s.token.clipped_high, kNoFault});
  store(t.arrays.grad_logps + row, plan.weight * s.token.loss.slope);
  if (t.arrays.grad_entropies) store(t.arrays.grad_entropies + row, -weight);
  return double(plan.weight) * s.shared;
}

FG_DEVICE void sequence_step(const Task& t, int64_t sequence, const BatchChoice& choice, Partial& total) {
  const int64_t begin = t.offsets ? load(t.offsets + sequence) : 0;
  const int64_t end = t.offsets ? load(t.offsets + sequence + 1) : t.rows.rows;
  const LossParams& p = t.rows.params;
  SequenceSums mine;
  for (int64_t row = begin + thread(); row < end; row += kThreads) {
    const RowPlan plan = load(t.rows.workspace.plan + row);
    if (plan.selected()) mine.add(sequence_term(p, t.rows.sampler_logps != nullptr, values_of(t, row, plan, choice)));
  }
  const SequenceValues<float> of = sequence_values<float>(p, block_sums(mine));
  double shared = 0;
  for (int64_t row = begin + thread(); row < end; row += kThreads) shared += token(t, row, choice, of, total);
  if (!shares_slope(p)) return;
  const float slope = float(block_sum(shared));
  for (int64_t row = begin + thread(); row < end; row += kThreads) {  // the rows that this thread has stored
    const RowPlan plan = load(t.rows.workspace.plan + row);
    if (!plan.selected() || slope == 0) continue;
    const float part = shared_part(p, of, values_of(t, row, plan, choice));
    store(t.arrays.grad_logps + row, load(t.arrays.grad_logps + row) + slope * part);
  }
}

FG_KERNEL(kThreads, 1) policy_sequences(const Task t) {
  const FaultKey before = earlier_fault(t.rows.workspace, t.rows.segments);
  BatchChoice choice{float(t.rows.params.entropy_threshold), t.rows.entropy_weight};
  if (t.chosen && before == kNoFault) choice = load_same(t.rows.workspace.choice);
  Partial partial = empty_partial();
  for (int64_t s = block(); s < t.rows.sequences && before == kNoFault; s += blocks())
    sequence_step(t, s, choice, partial);
  FG_SHARED(Partial, total, 1);
  partial = block_total(partial);
  if (thread() == 0) total[0] = partial;
  finish(t.rows.workspace, block(), blocks(), total, before, t.rows.outcome, t.rows.sequences);
}

}  // namespace

Launch sequence_steps(void* stream, const RowTask& rows, const Layout& layout, const TokenArrays& arrays,
                      double entropy_coef) {
  Shape shape;
  shape.threads = kThreads;
  shape.blocks = rows.sequences < 1 ? 1 : rows.sequences > kMaxPartials ? kMaxPartials : rows.sequences;
  const Task task{rows, layout.offsets, arrays, needs_choice(rows.params, entropy_coef)};
  return FG_LAUNCH(policy_sequences, shape, stream, task);
}

}  // namespace fg::cuda
