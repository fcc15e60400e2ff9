#include "torch/reference_tokens.h"

#include <vector>

#include "math/batch_choice.h"
#include "math/sequence_sums.h"

namespace fg {
namespace {

using at::Tensor;

Tensor all_true(const Tensor& like) { return at::ones_like(like, at::kBool); }

/// Per-sequence sums of per-token values, given back to every token.
Tensor over_sequence(const UnfusedTokens& t, const Tensor& values) {
  return at::zeros({t.sequences}, values.options()).index_add(0, t.sequence, values).index_select(0, t.sequence);
}
Tensor mean_over_sequence(const UnfusedTokens& t, const Tensor& values, const Tensor& counted) {
  const Tensor zero = at::zeros({}, values.options());
  const Tensor sum = over_sequence(t, at::where(counted, values, zero));
  return sum / over_sequence(t, counted.to(at::kDouble)).clamp_min(1);
}

/// Tokens that the entropy mask keeps.
Tensor kept_tokens(const LossParams& p, const UnfusedTokens& t) {
  if (!has_entropy_mask(p) || t.logp.numel() == 0) return all_true(t.logp);
  const Tensor entropy = t.entropy.detach();
  if (p.top_entropy_quantile >= 1) return entropy.ge(p.entropy_threshold);
  const Tensor sorted = std::get<0>(at::sort(entropy));
  const QuantileRank rank = quantile_rank(1 - p.top_entropy_quantile, sorted.numel());
  Tensor threshold = sorted[rank.low];
  if (rank.fraction > 0) threshold = threshold + rank.fraction * (sorted[rank.low + 1] - threshold);
  return entropy.ge(threshold);
}

/// Whether tokens are clipped already: clip_cov leaves those alone.
Tensor clipped_already(const LossParams& p, const Tensor& log_ratio, const Tensor& advantage) {
  const Tensor ratio = at::exp(at_most(log_ratio, kMaxLogRatio));
  return (between(ratio, 1 - p.epsilon_low, 1 + p.epsilon_high) * advantage).lt(ratio * advantage);
}

Tensor random_order(const LossParams& p, const Tensor& row) {
  std::vector<double> keys;
  for (int64_t i = 0; i < row.numel(); ++i)
    keys.push_back(-double(random_key(p.clip_cov_seed, row.const_data_ptr<int64_t>()[i])));
  return at::from_blob(keys.data(), {row.numel()}, at::kDouble).clone();
}

Tensor chosen_tokens(const LossParams& p, const UnfusedTokens& t, const Tensor& log_ratio) {
  const int64_t n = t.logp.numel();
  Tensor chosen = at::zeros_like(t.logp, at::kBool);
  if (!chooses_by_covariance(p.loss_type) || n == 0) return chosen;
  const Tensor logp = t.logp.detach();
  const Tensor covariance = (t.advantage - t.advantage.mean()) * (logp - logp.mean());
  Tensor rank = covariance, eligible = all_true(logp);
  if (p.loss_type == LossType::clip_cov) {
    eligible = covariance.gt(p.clip_cov_low) & covariance.lt(p.clip_cov_high) &
               clipped_already(p, log_ratio.detach(), t.advantage).logical_not();
    rank = random_order(p, t.row);
  }
  const double share = p.loss_type == LossType::kl_cov ? p.kl_cov_ratio : p.clip_cov_ratio;
  const Tensor candidates = at::nonzero(eligible).view(-1);
  const Tensor order = std::get<1>(at::sort(rank.index_select(0, candidates), /*stable=*/true, 0, /*descending=*/true));
  const int64_t count = std::min(chosen_count(share, n), candidates.numel());
  return chosen.index_fill_(0, candidates.index_select(0, order.narrow(0, 0, count)), 1);
}

/// The sampler's weight of each token (1 without).
Tensor correction_of(const LossParams& p, const UnfusedTokens& t, const Tensor& old) {
  if (p.sampler == SamplerCorrection::none) return at::ones_like(old);
  const Tensor d = sampler_log_ratio(old, t.sampler);
  return sampler_weight(p, corrects_by_sequence(p.sampler) ? over_sequence(t, d) : d);
}

Tensor factor_of(const LossParams& p, const UnfusedTokens& t, const Tensor& correction, const Tensor& kept) {
  Tensor factor = p.loss_type == LossType::vespo ? at::ones_like(correction) : correction;
  if (p.loss_type != LossType::gmpo) factor = factor * kept.to(at::kDouble);
  if (p.off_policy_threshold == kUnbounded) return factor;
  const Tensor logp = t.logp.detach();
  Tensor drift = at::zeros_like(logp);
  if (t.sampler.defined())
    drift = drift_term(t.sampler, logp);
  else if (t.old.defined())
    drift = t.old - logp;
  return factor * off_policy_keeps(p, t.advantage, mean_over_sequence(t, drift, all_true(logp))).to(at::kDouble);
}

/// What a sequence shares beside the ratio: VESPO's weight, GMPO's mean.
Tensor shared_of(const LossParams& p, const UnfusedTokens& t, const Tensor& w, const Tensor& correction,
                 const Tensor& kept) {
  if (p.loss_type == LossType::gmpo) return mean_over_sequence(t, gmpo_term(p, w, t.advantage), kept);
  if (p.loss_type == LossType::vespo) return vespo_log_weight(over_sequence(t, vespo_term(w.detach(), correction)));
  return at::zeros_like(w);
}

}  // namespace

UnfusedTokenLoss unfused_token_loss(const LossParams& p, const UnfusedTokens& t) {
  // On policy the log-ratio is 0 with derivative 1; -inf - -inf must not appear in it.
  const Tensor finite = at::where(at::isinf(t.logp), at::zeros({}, t.logp.options()), t.logp);
  const Tensor w = t.old.defined() ? t.logp - t.old : finite - finite.detach();
  const Tensor old = t.old.defined() ? t.old : t.logp.detach();
  Tensor u = w;
  if (p.level != RatioLevel::token) u = mean_over_sequence(t, w, all_true(w));
  if (p.level == RatioLevel::sequence_token) u = Ops<Tensor>::add_slope(u.detach(), w);
  const Tensor kept = kept_tokens(p, t), correction = correction_of(p, t, old);
  const TokenInputs<Tensor> in{u,
                               t.logp,
                               shared_of(p, t, w, correction, kept),
                               t.ref,
                               t.advantage,
                               factor_of(p, t, correction, kept),
                               chosen_tokens(p, t, w)};
  return {token_loss(p, in), kept};
}

}  // namespace fg
