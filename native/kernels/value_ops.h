#pragma once
// More ops of kernels.h, all of them token-sized or smaller: advantages of other kinds, losses of critics and reward
// models. Serial, fp64 inside. Host memory here, device memory in kernels/cuda/value_ops.h: the same structs and
// checks. A fault names the first element of its array that is bad; outputs are then of no use.
#include "kernels/kernels.h"
#include "math/gae.h"
#include "math/multi_reward_advantages.h"

namespace fg::kernels {

/// Sums over what is selected; what an op does not have stays 0.
struct Totals {
  double loss = 0;      // divided by the normalizer
  double margin = 0;    // sum of chosen - rejected
  int64_t count = 0;    // tokens or pairs
  int64_t clipped = 0;  // tokens whose clipped error was the larger one
  int64_t ranked = 0;   // pairs whose chosen reward is the larger one
};

/// Where group statistics go: as in group_advantages, none null.
struct GroupResults {
  float *mean = nullptr, *std = nullptr;
  uint8_t* zero_std = nullptr;
};

// --- gae: rewards and values of tokens -> advantages and returns. What is masked is stepped over. ---
struct GaeArgs {
  Layout layout;
  const float *rewards = nullptr, *values = nullptr;  // (rows)
  const float* last_values = nullptr;                 // (sequences), of the state after the last token; null: 0
  GaeOptions options;
  float *advantages = nullptr, *returns = nullptr;  // (rows)
};
Status gae(const GaeArgs&, void* workspace);
inline size_t gae_workspace(int64_t rows) { return size_t(rows) * sizeof(double); }

inline FG_HD Fault gae_fault(float reward, float value) {
  return !is_finite(reward) ? Fault::token_reward : !is_finite(value) ? Fault::value : Fault::none;
}

// --- value_loss ---
struct ValueLossArgs {
  Layout layout;  // rows and mask
  const float *values = nullptr, *returns = nullptr;
  const float* old_values = nullptr;  // not read when clip is kUnbounded
  double clip = kUnbounded;
  double normalizer = 1;
  float* grad_values = nullptr;  // (rows)
};
Status value_loss(const ValueLossArgs&, Totals*);

inline FG_HD Fault value_fault(float value, float old, float target) {
  if (!is_finite(value)) return Fault::value;
  return !is_finite(old) ? Fault::old_value : is_finite(target) ? Fault::none : Fault::return_value;
}

// --- preference_loss ---
struct PreferenceLossArgs {
  int64_t pairs = 0;
  const float *chosen = nullptr, *rejected = nullptr;  // (pairs)
  const float* margins = nullptr;                      // (pairs), may be null
  double center_coefficient = 0;
  double normalizer = 1;
  float *grad_chosen = nullptr, *grad_rejected = nullptr;  // (pairs)
};
Status preference_loss(const PreferenceLossArgs&, Totals*);

inline FG_HD Fault preference_fault(float chosen, float rejected, float margin) {
  if (!is_finite(chosen)) return Fault::chosen_reward;
  return !is_finite(rejected) ? Fault::rejected_reward : is_finite(margin) ? Fault::none : Fault::margin;
}

// --- pass_at_k_advantages: rewards 0 or 1. Groups of fewer than k: pass 0, advantages 0. ---
struct PassAtKArgs {
  const double* rewards = nullptr;         // (count)
  const int32_t* group_offsets = nullptr;  // (groups + 1)
  int64_t count = 0, groups = 0, k = 1;
  float* advantages = nullptr;  // (count)
  float* pass_at_k = nullptr;   // (groups)
};
Status pass_at_k_advantages(const PassAtKArgs&);

inline FG_HD Fault binary_fault(double reward) {
  return !is_finite(reward) ? Fault::reward : reward == 0 || reward == 1 ? Fault::none : Fault::binary_reward;
}

// --- process_advantages: rewards of steps -> advantages of tokens ---
struct ProcessAdvantagesArgs {
  Layout layout;                           // no mask
  const double* step_rewards = nullptr;    // (steps)
  const int32_t* step_ends = nullptr;      // (steps): rows, ascending in a sequence
  const int32_t* step_offsets = nullptr;   // (sequences + 1)
  const int32_t* group_offsets = nullptr;  // (groups + 1), of sequences
  int64_t steps = 0, groups = 0;
  AdvantageOptions options;     // baseline group_mean; scale group or none
  float* advantages = nullptr;  // (rows)
  GroupResults results;         // (groups), of step rewards
};
Status process_advantages(const ProcessAdvantagesArgs&, void* workspace);
inline size_t process_advantages_workspace(int64_t steps) { return size_t(steps) * sizeof(double); }

// --- multi_reward_advantages ---
struct MultiRewardArgs {
  const double* rewards = nullptr;  // (functions, count), NaN: nothing to say
  const double* weights = nullptr;  // (functions)
  const int32_t* group_offsets = nullptr;
  int64_t functions = 0, count = 0, groups = 0;
  RewardAggregation aggregation = RewardAggregation::sum_then_normalize;
  AdvantageOptions options;  // exclude_non_finite: infinite rewards count as NaN, and are no fault
  float* advantages = nullptr;
  GroupResults results;  // mean and std of weighted sums; zero_std where what is normalised last is constant
};
Status multi_reward_advantages(const MultiRewardArgs&, void* workspace);
inline size_t multi_reward_advantages_workspace(int64_t count) { return size_t(count) * 2 * sizeof(double); }

/// The fault's row is function * count + completion.
inline FG_HD Fault function_reward_fault(const AdvantageOptions& o, double reward) {
  const bool infinite = reward == reward && !is_finite(reward);
  return infinite && !o.exclude_non_finite ? Fault::function_reward : Fault::none;
}

// --- rewards_with_kl: a sequence's reward less beta times the sum of its tokens' KL estimates ---
struct RewardsWithKlArgs {
  Layout layout;
  const double* rewards = nullptr;                     // (sequences)
  const float *logps = nullptr, *ref_logps = nullptr;  // (rows); not read when beta is 0
  double beta = 0;
  KlEstimator estimator = KlEstimator::k1;
  double* out = nullptr;  // (sequences)
};
Status rewards_with_kl(const RewardsWithKlArgs&);

inline FG_HD Fault kl_fault(float logp, float ref) {
  return !is_finite(logp) ? Fault::logp : is_finite(ref) ? Fault::none : Fault::ref_logp;
}

}  // namespace fg::kernels
