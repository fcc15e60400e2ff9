#pragma once
// Rewards of several functions into one number a completion, by their weights. A function that has nothing to say about
// a completion (NaN) is left out; where none has, the number is NaN and the completion is left out of all statistics.
#include "math/advantage.h"

namespace fg {

enum class RewardAggregation : uint8_t {
  sum_then_normalize,  // the weighted sum is the reward
  normalize_then_sum  // GDPO, arXiv:2601.05242: z-scores of each function, their weighted sum, its z-score in the batch
};

inline constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

/// `sum` (kNothing to begin with) and one function's part of it.
inline FG_HD double with_reward(double sum, double weight, double reward) {
  if (!is_finite(reward)) return sum;
  return (sum == sum ? sum : 0.0) + weight * reward;
}

/// The advantage made of a completion's weighted z-scores: exactly 0 where those of its group are equal, for their sum
/// is 0.
inline FG_HD double batch_score(AdvantageOptions o, double score, const GroupStats& group, const GroupStats& batch) {
  if (group.constant) return 0;
  o.baseline = Baseline::batch_mean, o.scale = RewardScale::batch;
  return advantage(o, score, group, batch);
}

}  // namespace fg
