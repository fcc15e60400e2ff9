// Token-sized work before an op touches logits: checks in the CPU's order, token weights, where each row lies, and
// advantages from rewards. Segments are shared out over blocks: whole sequences when something is counted per sequence,
// else runs of rows.
#include "kernels/cuda/team.h"
#include "math/sequence_sums.h"

namespace fg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kRun = 1024;  // rows of a segment when sequences do not matter

struct Task {
  PrepareTask p;
  bool by_sequence;
  int64_t segments;
};

/// The last i in [0, n) with offsets[i] <= at.
FG_DEVICE int64_t find_segment(const int32_t* offsets, int64_t n, int64_t at) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (load(offsets + middle) <= at)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

FG_DEVICE bool in_mask(const Layout& l, int64_t row) { return !l.mask || load(l.mask + row) != 0; }
FG_DEVICE bool in_sequence(const Layout& l, int64_t s) { return !l.truncated || load(l.truncated + s) == 0; }

/// Selected rows of [begin, end); every thread of the block gets the sum.
FG_DEVICE int64_t count_selected(const Layout& l, int64_t begin, int64_t end) {
  if (!l.mask) return end - begin;
  FG_SHARED(int32_t, count_of_warp, kThreads / 32);
  int32_t n = 0;
  for (int64_t row = begin + thread(); row < end; row += threads()) n += load(l.mask + row) != 0;
  for (int m = 16; m > 0; m >>= 1) n += shuffle_xor(n, m);
  sync();
  if (lane() == 0) count_of_warp[warp()] = n;
  sync();
  int64_t total = 0;
  for (int i = 0; i < kThreads / 32; ++i) total += int32_t(count_of_warp[i]);
  return total;
}

/// One sequence's advantage from the rewards of its group, by warp 0. Statistics of a group are small, those of the
/// batch are formed again by every block: cheaper than a launch of their own.
struct Rewarder {
  const GroupAdvantagesArgs& a;

  FG_DEVICE double value(int64_t group, int64_t i) const {
    const int64_t begin = load(a.group_offsets + group), n = load(a.group_offsets + group + 1) - begin;
    const double* rewards = a.rewards + begin;
    if (a.options.transform == RewardTransform::none) return load(rewards + i);
    return rank_of([rewards](int64_t j) { return load(rewards + j); }, n, i);
  }
  FG_DEVICE GroupStats group(int64_t g) const {
    const int64_t n = load(a.group_offsets + g + 1) - load(a.group_offsets + g);
    return group_stats(WarpTeam{}, [this, g](int64_t i) { return value(g, i); }, n, a.options.ddof);
  }
  FG_DEVICE GroupStats batch() const {
    const auto read = [this](int64_t i) {
      if (a.options.transform == RewardTransform::none) return load(a.rewards + i);
      const int64_t g = find_segment(a.group_offsets, a.groups + 1, i);
      return value(g, i - load(a.group_offsets + g));
    };
    return group_stats(WarpTeam{}, read, a.count, a.options.ddof);
  }
  FG_DEVICE bool needs_batch() const {
    return a.options.scale == RewardScale::batch || a.options.baseline == Baseline::batch_mean;
  }
};

FG_DEVICE FaultKey reward_fault(const GroupAdvantagesArgs& a, int64_t s) {
  const bool bad = !a.options.exclude_non_finite && !is_finite(load(a.rewards + s));
  return bad ? fault_key(Stage::rewards, s, kernels::Fault::reward) : kNoFault;
}

/// Warp 0 only. The group that sequence s begins writes its statistics; empty groups are written by the sequence after.
FG_DEVICE void write_advantage(const GroupAdvantagesArgs& a, const GroupStats& batch, int64_t s) {
  const Rewarder r{a};
  const int64_t g = find_segment(a.group_offsets, a.groups, s), begin = load(a.group_offsets + g);
  const GroupStats group = r.group(g);
  if (lane() != 0) return;
  store(a.advantages + s, float(advantage(a.options, r.value(g, s - begin), group, batch)));
  if (s != begin) return;
  if (a.mean) store(a.mean + g, float(group.mean));
  if (a.std) store(a.std + g, float(group.std));
  if (a.zero_std) store(a.zero_std + g, uint8_t(group.constant));
}

FG_DEVICE void write_empty_groups(const GroupAdvantagesArgs& a) {
  for (int64_t g = thread(); g < a.groups; g += threads()) {
    if (load(a.group_offsets + g) != load(a.group_offsets + g + 1)) continue;
    if (a.mean) store(a.mean + g, 0.0f);
    if (a.std) store(a.std + g, 0.0f);
    if (a.zero_std) store(a.zero_std + g, uint8_t(1));
  }
}

FG_DEVICE bool is_infinite(float v) { return !is_finite(v) && v == v; }

FG_DEVICE FaultKey check_row(const PrepareTask& p, int64_t row, int64_t s) {
  using kernels::Fault;
  if (p.targets) {
    const int32_t target = load(p.targets + row);
    if (target < 0 || target >= p.logits.vocab) return fault_key(Stage::targets, row, Fault::target);
  }
  if (p.old_logps && !is_finite(load(p.old_logps + row))) return fault_key(Stage::tokens, row, Fault::old_logp);
  if (p.ref_logps && !is_finite(load(p.ref_logps + row))) return fault_key(Stage::tokens, row, Fault::ref_logp);
  if (p.sampler_logps && is_infinite(load(p.sampler_logps + row)))
    return fault_key(Stage::tokens, row, Fault::sampler_logp);
  if (p.advantages && !is_finite(load(p.advantages + (p.advantages_per_token ? row : s))))
    return fault_key(Stage::tokens, row, Fault::advantage);
  if (p.logps && !(load(p.logps + row) <= std::numeric_limits<float>::max()))
    return fault_key(Stage::values, row, Fault::logp);
  if (p.entropies && !is_finite(load(p.entropies + row))) return fault_key(Stage::values, row, Fault::entropy);
  return kNoFault;
}

FG_DEVICE bool has_gradient(const PrepareTask& p, int64_t row) {
  if (!p.grad_logps) return true;
  return load(p.grad_logps + row) != 0 || (p.grad_entropies && load(p.grad_entropies + row) != 0);
}

/// log(pi_old / pi_sampler), 0 for a row that is not selected.
FG_DEVICE float sampler_term(const PrepareTask& p, int64_t row, bool selected) {
  return selected ? sampler_log_ratio(load(p.old_logps + row), load(p.sampler_logps + row)) : 0.0f;
}

/// What a sequence's rows have in common.
struct SequencePlan {
  int64_t sequence, first;  // row
  float weight, factor;
};

FG_DEVICE FaultKey plan_row(const PrepareTask& p, int64_t row, const SequencePlan& of, bool selected) {
  const int64_t s = of.sequence, first = of.first;
  const FaultKey fault = selected ? check_row(p, row, s) : kNoFault;
  selected = selected && has_gradient(p, row);
  RowPlan plan{};
  plan.logits = p.logits.at(row, s, row - first);
  plan.grad = p.grad.at(row, s, row - first);
  plan.target = !selected ? -1 : p.targets ? load(p.targets + row) : 0;
  plan.sequence = int32_t(s);
  plan.weight = !selected ? 0.0f : p.token_weights ? load(p.token_weights + row) : of.weight;
  plan.factor = of.factor;
  if (p.corrects && !corrects_by_sequence(p.params.sampler))
    plan.factor = sampler_weight(p.params, sampler_term(p, row, selected));
  store(p.workspace.plan + row, plan);
  return fault;
}

/// The sampler's weight of a whole sequence (every thread gets it), or 1.
FG_DEVICE float sequence_factor(const PrepareTask& p, int64_t begin, int64_t end, bool taken) {
  if (!p.corrects || !corrects_by_sequence(p.params.sampler)) return 1;
  double sum = 0;
  for (int64_t row = begin + thread(); row < end; row += threads())
    sum += sampler_term(p, row, taken && in_mask(p.layout, row));
  return sampler_weight(p.params, float(block_sum(sum)));
}

FG_DEVICE FaultKey plan_sequence(const PrepareTask& p, const GroupStats& batch, int64_t s) {
  const Layout& l = p.layout;
  FaultKey fault = kNoFault;
  if (p.rewards.count > 0) {
    fault = reward_fault(p.rewards, s);
    if (warp() == 0) write_advantage(p.rewards, batch, s);
    if (p.only_rewards) return fault;
  }
  const int64_t begin = l.offsets ? load(l.offsets + s) : 0, end = l.offsets ? load(l.offsets + s + 1) : l.rows;
  const bool taken = in_sequence(l, s);
  const int64_t length = taken && p.weights ? count_selected(l, begin, end) : 0;
  const float weight = p.weights ? float(token_weight(p.params.loss_type, p.normalizer, length)) : 0.0f;
  const SequencePlan of{s, begin, weight, sequence_factor(p, begin, end, taken)};
  for (int64_t row = begin + thread(); row < end; row += threads()) {
    const FaultKey k = plan_row(p, row, of, taken && in_mask(l, row));
    fault = k < fault ? k : fault;
  }
  return fault;
}

FG_DEVICE FaultKey plan_run(const PrepareTask& p, int64_t run) {
  const Layout& l = p.layout;
  FaultKey fault = kNoFault;
  const float weight = p.weights ? float(token_weight(p.params.loss_type, p.normalizer, 1)) : 0.0f;
  const int64_t end = (run + 1) * kRun < l.rows ? (run + 1) * kRun : l.rows;
  for (int64_t row = run * kRun + thread(); row < end; row += threads()) {
    const int64_t s = l.offsets ? find_segment(l.offsets, l.sequences, row) : 0;
    const int64_t first = l.offsets ? load(l.offsets + s) : 0;
    const bool taken = in_sequence(l, s);
    const FaultKey k = plan_row(p, row, SequencePlan{s, first, weight, 1}, taken && in_mask(l, row));
    fault = k < fault ? k : fault;
  }
  return fault;
}

FG_KERNEL(kThreads, 2) prepare_rows(const Task t) {
  const PrepareTask& p = t.p;
  FaultKey fault = kNoFault;
  GroupStats batch;
  if (p.rewards.count > 0 && warp() == 0 && Rewarder{p.rewards}.needs_batch()) batch = Rewarder{p.rewards}.batch();
  for (int64_t i = block(); i < t.segments; i += blocks()) {
    const FaultKey k = t.by_sequence ? plan_sequence(p, batch, i) : plan_run(p, i);
    fault = k < fault ? k : fault;
  }
  if (block() == 0 && p.rewards.groups > 0) write_empty_groups(p.rewards);
  fault = block_least(fault);
  if (p.only_rewards) {  // as many blocks as partials: the last one writes the outcome
    FG_SHARED(Partial, mine, 1);
    Partial one = empty_partial();
    one.fault = fault;
    if (thread() == 0) mine[0] = one;
    return finish(p.workspace, block(), blocks(), mine, kNoFault, p.outcome, t.segments);
  }
  if (thread() != 0) return;
  store(p.workspace.faults + block(), fault);
  if (block() != 0) return;
  store(p.workspace.ticket, 0u);
  store(p.workspace.carried, kNoFault);
}

struct ZeroTask {
  uint32_t* ticket;
};
FG_KERNEL(32, 1) zero_ticket(const ZeroTask t) {
  if (thread() == 0) store(t.ticket, 0u);
}

}  // namespace

Launch prepare(void* stream, const PrepareTask& p, int64_t* segments) {
  const bool counts = p.weights && weighs_by_length(p.params.loss_type);
  const bool sums = p.corrects && corrects_by_sequence(p.params.sampler);
  Task t{p, p.rewards.count > 0 || p.only_rewards || counts || sums, 0};
  t.segments = p.only_rewards  ? p.rewards.count
               : t.by_sequence ? p.layout.sequences
                               : (p.layout.rows + kRun - 1) / kRun;
  Shape shape;
  shape.threads = kThreads;
  shape.blocks = t.segments < 1 ? 1 : t.segments > kMaxSegments ? kMaxSegments : t.segments;
  if (segments) *segments = shape.blocks;
  if (p.only_rewards) {  // no launch has come before that could have set the ticket
    const Launch zero = FG_LAUNCH(zero_ticket, (Shape{1, 32}), stream, ZeroTask{p.workspace.ticket});
    if (!zero.ok()) return zero;
  }
  return FG_LAUNCH(prepare_rows, shape, stream, t);
}

size_t workspace_bytes(int64_t rows) {
  const size_t fixed = 128 + 32 + kMaxSegments * sizeof(FaultKey) + kMaxPartials * sizeof(Partial);
  return fixed + size_t(rows) * (sizeof(RowPlan) + 5 * sizeof(float) + 1);
}

Launch group_advantages(const Context& context, const GroupAdvantagesArgs& a, void* workspace, Outcome* outcome) {
  PrepareTask p;
  p.rewards = a;
  p.only_rewards = true;
  p.outcome = outcome;
  p.workspace = carve(workspace, a.count);
  return prepare(context.stream, p, nullptr);
}

}  // namespace fg::cuda
