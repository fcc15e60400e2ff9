// Rewards of several functions -> advantages. math/multi_reward_advantages.h adds functions up, math/advantage.h
// normalises.
#include "math/multi_reward_advantages.h"

#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

Status check(const MultiRewardArgs& a) {
  for (int64_t i = 0; i < a.functions * a.count; ++i)
    if (const Fault f = function_reward_fault(a.options, a.rewards[i]); f != Fault::none) return {f, i};
  return {};
}

double weighted_sum(const MultiRewardArgs& a, int64_t completion) {
  double sum = kNothing;
  for (int64_t k = 0; k < a.functions; ++k) sum = with_reward(sum, a.weights[k], a.rewards[k * a.count + completion]);
  return sum;
}

/// Weighted sums of each function's z-scores in group g.
void add_scores(const MultiRewardArgs& a, int64_t g, double* scores) {
  const int64_t begin = a.group_offsets[g], end = a.group_offsets[g + 1];
  for (int64_t i = begin; i < end; ++i) scores[i] = kNothing;
  for (int64_t k = 0; k < a.functions; ++k) {
    const double* rewards = a.rewards + k * a.count;
    const auto read = [&](int64_t i) { return rewards[begin + i]; };
    const GroupStats of = group_stats(Alone{}, read, end - begin, a.options.ddof);
    for (int64_t i = begin; i < end; ++i)
      if (is_finite(rewards[i]))
        scores[i] = with_reward(scores[i], a.weights[k], advantage(a.options, rewards[i], of, of));
  }
}

void normalize_then_sum(const MultiRewardArgs& a, const double* sums, double* scores) {
  for (int64_t g = 0; g < a.groups; ++g) add_scores(a, g, scores);
  const int ddof = a.options.ddof;
  const GroupStats batch = group_stats(Alone{}, [&](int64_t i) { return scores[i]; }, a.count, ddof);
  for (int64_t g = 0; g < a.groups; ++g) {
    const int64_t begin = a.group_offsets[g], n = a.group_offsets[g + 1] - begin;
    const GroupStats of = group_stats(Alone{}, [&](int64_t i) { return sums[begin + i]; }, n, ddof);
    const GroupStats scored = group_stats(Alone{}, [&](int64_t i) { return scores[begin + i]; }, n, ddof);
    for (int64_t i = begin; i < begin + n; ++i)
      a.advantages[i] = float(batch_score(a.options, scores[i], scored, batch));
    a.results.mean[g] = float(of.mean);
    a.results.std[g] = float(of.std);
    a.results.zero_std[g] = scored.constant;
  }
}

}  // namespace

Status multi_reward_advantages(const MultiRewardArgs& a, void* workspace) {
  if (const Status s = check(a); !s.ok()) return s;
  auto* sums = static_cast<double*>(workspace);
  for (int64_t i = 0; i < a.count; ++i) sums[i] = weighted_sum(a, i);
  if (a.aggregation == RewardAggregation::normalize_then_sum) {
    normalize_then_sum(a, sums, sums + a.count);
    return {};
  }
  AdvantageOptions options = a.options;
  options.exclude_non_finite = true;
  return group_advantages(sums, a.count, a.group_offsets, a.groups, options, a.advantages, a.results.mean,
                          a.results.std, a.results.zero_std, sums + a.count);
}

}  // namespace fg::kernels
