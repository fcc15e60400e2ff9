// Rewards of several functions -> advantages: their weighted sums one thread a completion, then group_advantages; or
// z-scores one warp a group, then one block over the batch.
#include "math/multi_reward_advantages.h"

#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

constexpr int kBatchThreads = 1024;

struct Task {
  kernels::MultiRewardArgs a;
  Tally* tallies;
  double *sums, *scores;  // (count)
};

FG_KERNEL(kTallyThreads, 1) sum_functions(const Task t) {
  FaultKey fault = kNoFault;
  for (int64_t i = block() * threads() + thread(); i < t.a.count; i += blocks() * threads()) {
    double sum = kNothing;
    for (int64_t k = 0; k < t.a.functions; ++k) {
      const double reward = load(t.a.rewards + k * t.a.count + i);
      note(fault, Stage::rewards, k * t.a.count + i, kernels::function_reward_fault(t.a.options, reward));
      sum = with_reward(sum, load(t.a.weights + k), reward);
    }
    store(t.sums + i, sum);
  }
  leave_tally(t.tallies, fault);
}

/// A lane reads back only scores that it has stored itself.
FG_DEVICE void score_group(const Task& t, int64_t g) {
  const int64_t begin = load(t.a.group_offsets + g), n = load(t.a.group_offsets + g + 1) - begin;
  for (int64_t i = lane(); i < n; i += 32) store(t.scores + begin + i, kNothing);
  for (int64_t k = 0; k < t.a.functions; ++k) {
    const double* rewards = t.a.rewards + k * t.a.count + begin;
    const double weight = load(t.a.weights + k);
    const GroupStats of =
        group_stats(WarpTeam{}, [rewards](int64_t i) { return load(rewards + i); }, n, t.a.options.ddof);
    for (int64_t i = lane(); i < n; i += 32) {
      const double reward = load(rewards + i);
      if (!is_finite(reward)) continue;
      const double score = advantage(t.a.options, reward, of, of);
      store(t.scores + begin + i, with_reward(load(t.scores + begin + i), weight, score));
    }
  }
  const double* sums = t.sums + begin;
  const GroupStats of = group_stats(WarpTeam{}, [sums](int64_t i) { return load(sums + i); }, n, t.a.options.ddof);
  if (lane() != 0) return;
  store(t.a.results.mean + g, float(of.mean));
  store(t.a.results.std + g, float(of.std));
}

FG_KERNEL(kTallyThreads, 1) score_groups(const Task t) {
  for (int64_t g = grid_warp(); g < t.a.groups; g += grid_warps()) score_group(t, g);
}

/// A block as math/advantage.h wants its team.
struct BlockTeam {
  FG_DEVICE int64_t index() const { return thread(); }
  FG_DEVICE int64_t size() const { return threads(); }
  FG_DEVICE double sum(double v) const { return block_sum(v); }
  FG_DEVICE int64_t least(int64_t v) const { return int64_t(block_least(FaultKey(v))); }
  FG_DEVICE bool all(bool v) const { return block_sum(v ? 0.0 : 1.0) == 0; }
};

/// One block.
FG_KERNEL(kBatchThreads, 1) score_batch(const Task t) {
  const int ddof = t.a.options.ddof;
  const GroupStats batch = group_stats(BlockTeam{}, [&](int64_t i) { return load(t.scores + i); }, t.a.count, ddof);
  for (int64_t g = grid_warp(); g < t.a.groups; g += grid_warps()) {
    const int64_t begin = load(t.a.group_offsets + g), n = load(t.a.group_offsets + g + 1) - begin;
    const double* scores = t.scores + begin;
    const GroupStats group = group_stats(WarpTeam{}, [scores](int64_t i) { return load(scores + i); }, n, ddof);
    for (int64_t i = lane(); i < n; i += 32)
      store(t.a.advantages + begin + i, float(batch_score(t.a.options, load(scores + i), group, batch)));
    if (lane() == 0) store(t.a.results.zero_std + g, uint8_t(group.constant));
  }
}

/// The sums are rewards, and what has no sum is left out. The fault, if any, is known already: no outcome.
Launch normalize_sums(const Context& context, const Task& t, void* workspace) {
  GroupAdvantagesArgs a;
  a.rewards = t.sums, a.count = t.a.count;
  a.group_offsets = t.a.group_offsets, a.groups = t.a.groups;
  a.options = t.a.options, a.options.exclude_non_finite = true;
  a.advantages = t.a.advantages;
  a.mean = t.a.results.mean, a.std = t.a.results.std, a.zero_std = t.a.results.zero_std;
  return group_advantages(context, a, workspace, nullptr);
}

Launch normalize_scores(const Context& context, const Task& t) {
  const Launch l = FG_LAUNCH(score_groups, tally_shape(t.a.groups, kTallyThreads / 32), context.stream, t);
  return l.ok() ? FG_LAUNCH(score_batch, (Shape{1, kBatchThreads}), context.stream, t) : l;
}

/// Of the sums and of the scores, so that what follows is 16-byte aligned.
size_t scores_bytes(int64_t count) { return (size_t(count) * sizeof(double) + 15) / 16 * 16; }

}  // namespace

Launch multi_reward_advantages(const Context& context, const kernels::MultiRewardArgs& a, void* workspace,
                               TotalsOutcome* outcome) {
  char* scratch = behind_tallies<char>(workspace);
  const size_t bytes = scores_bytes(a.count);
  const Task t{a, static_cast<Tally*>(workspace), reinterpret_cast<double*>(scratch),
               reinterpret_cast<double*>(scratch + bytes)};
  const Shape shape = tally_shape(a.count, kTallyThreads);
  Launch l = FG_LAUNCH(sum_functions, shape, context.stream, t);
  if (l.ok())
    l = a.aggregation == RewardAggregation::normalize_then_sum ? normalize_scores(context, t)
                                                               : normalize_sums(context, t, scratch + 2 * bytes);
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t multi_reward_advantages_workspace(int64_t count) {
  return kTallyBytes + 2 * scores_bytes(count) + workspace_bytes(count);
}

}  // namespace fg::cuda
