#pragma once
// The options of the policy loss: docs/losses.md says what each means and where it comes from. Names of enumerators are
// those of TRL's GRPOConfig and of lib/ops/types.ts; the order is that of lib/ops/config.ts.
#include <cstdint>
#include <limits>

#include "math/scalar.h"

namespace fg {

/// The surrogate, and how token losses become one number.
enum class LossType : uint8_t {
  grpo,
  bnpo,
  dr_grpo,
  dapo,
  cispo,
  sapo,
  vespo,
  luspo,
  gmpo,
  reinforce,
  dppo,
  clip_cov,
  kl_cov
};
/// What the importance ratio is of (importanceSamplingLevel).
enum class RatioLevel : uint8_t { token, sequence, sequence_token };
enum class KlEstimator : uint8_t { k1, k2, k3 };
enum class KlGradient : uint8_t { estimator, straight_through, score_function };
enum class SamplerCorrection : uint8_t { none, token_truncate, token_mask, sequence_truncate, sequence_mask };
enum class Divergence : uint8_t { tv, kl };

/// A bound that is not there.
inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct LossParams {
  LossType loss_type = LossType::dapo;
  RatioLevel level = RatioLevel::token;
  KlEstimator kl = KlEstimator::k3;
  KlGradient kl_gradient = KlGradient::estimator;
  bool bias_correction_kl = true;
  double epsilon_low = 0.2;
  double epsilon_high = 0.2;
  double delta = kUnbounded;
  double dual_clip = kUnbounded;
  double beta = 0;
  double sapo_temperature_pos = 1, sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2, vespo_k_neg = 3, vespo_lambda_pos = 3, vespo_lambda_neg = 2;
  Divergence dppo_divergence = Divergence::tv;
  double dppo_ratio_max = 20;
  double clip_cov_ratio = 2e-4, clip_cov_low = 1, clip_cov_high = 5;
  uint32_t clip_cov_seed = 0;
  double kl_cov_ratio = 2e-4, kl_cov_coef = 1;
  // Factors of the surrogate
  SamplerCorrection sampler = SamplerCorrection::none;
  double sampler_min = -kUnbounded, sampler_max = 3;
  double off_policy_threshold = kUnbounded;
  double top_entropy_quantile = 1;
  double entropy_threshold = -kUnbounded;  // given instead of the quantile
};

inline FG_HD bool corrects_by_sequence(SamplerCorrection c) {
  return c == SamplerCorrection::sequence_truncate || c == SamplerCorrection::sequence_mask;
}
inline FG_HD bool chooses_by_covariance(LossType t) { return t == LossType::clip_cov || t == LossType::kl_cov; }
inline FG_HD bool has_entropy_mask(const LossParams& p) {
  return p.top_entropy_quantile < 1 || p.entropy_threshold > -kUnbounded;
}

/// The surrogate's derivative reaches a token through its whole sequence.
inline FG_HD bool shares_slope(const LossParams& p) {
  return p.level == RatioLevel::sequence || p.loss_type == LossType::gmpo;
}

/// The loss of a token depends on current log-probs or entropies of other tokens: they must all be known first.
inline bool needs_sequences(const LossParams& p, bool on_policy) {
  return p.level != RatioLevel::token || p.loss_type == LossType::vespo || p.loss_type == LossType::gmpo ||
         chooses_by_covariance(p.loss_type) || p.off_policy_threshold < kUnbounded || p.top_entropy_quantile < 1 ||
         (on_policy && p.sampler != SamplerCorrection::none);
}

inline FG_HD bool weighs_by_length(LossType type) {
  return type == LossType::grpo || type == LossType::sapo || type == LossType::gmpo;
}

/// The factor of a token's loss in the total: `normalizer` counts what the loss type says (docs/losses.md) over the
/// whole optimizer step; `length` is the sequence's number of selected tokens.
inline FG_HD double token_weight(LossType type, double normalizer, int64_t length) {
  return 1.0 / ((weighs_by_length(type) && length > 1 ? double(length) : 1.0) * normalizer);
}
/// What `normalizer` counts.
enum class Counted : uint8_t { tokens, sequences, sequence_lengths };
inline Counted counted_by(LossType type) {
  if (type == LossType::dr_grpo) return Counted::sequence_lengths;
  return weighs_by_length(type) || type == LossType::luspo ? Counted::sequences : Counted::tokens;
}

}  // namespace fg
