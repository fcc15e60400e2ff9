#pragma once
// What a token's loss depends on beside the token itself: sums over its sequence, and the factors that masks and
// corrections make of them. docs/losses.md. Per-token terms are given for every scalar; who adds them up is the
// kernels' business.
#include "math/policy_loss.h"

namespace fg {

inline constexpr double kLogTiny = -18.420680743952367;  // ln 1e-8, the bound of VESPO's own code

/// log(pi_old / pi_sampler) of a token; an unknown (NaN) sampler log-prob corrects nothing. Plain values.
template <class V>
FG_HD V sampler_log_ratio(V old, V sampler) {
  using O = Ops<V>;
  return O::select(O::is_nan(sampler), O::constant(old, 0), O::sub(old, sampler));
}

/// The weight that a log-ratio (of a token, or summed over a sequence) gives: truncated, or 0 out of bounds. Truncated
/// importance sampling and its masked form (IcePop, arXiv:2510.18855).
template <class V>
FG_HD V sampler_weight(const LossParams& p, V log_ratio) {
  using O = Ops<V>;
  const V w = O::exp(at_most(log_ratio, kMaxLogRatio));
  const bool masks = p.sampler == SamplerCorrection::token_mask || p.sampler == SamplerCorrection::sequence_mask;
  if (!masks) return between(w, p.sampler_min, p.sampler_max);
  const auto outside = O::either(O::below(w, p.sampler_min), O::less(O::constant(w, p.sampler_max), w));
  return O::select(outside, O::constant(w, 0), w);
}

/// log(pi_sampler / pi_theta), the evidence of the off-policy sequence mask (DeepSeek-V3.2, arXiv:2512.02556).
template <class V>
FG_HD V drift_term(V sampler, V logp) {
  using O = Ops<V>;
  return O::select(O::is_nan(sampler), O::constant(logp, 0), O::sub(sampler, logp));
}

/// The mask itself: negative advantages of sequences that have drifted further than the threshold are left out.
template <class V>
FG_HD typename Ops<V>::Bool off_policy_keeps(const LossParams& p, V advantage, V mean_drift) {
  using O = Ops<V>;
  const auto drifted = O::less(O::constant(mean_drift, p.off_policy_threshold), mean_drift);
  return O::negate(O::both(O::below(advantage, 0), drifted));
}

/// A token's part of the log of VESPO's sequence weight. `correction` is its sampler weight (1 without).
template <class V>
FG_HD V vespo_term(V log_ratio, V correction) {
  using O = Ops<V>;
  const V log_correction = O::select(O::below(correction, 1e-8), O::constant(correction, kLogTiny), O::log(correction));
  return O::add(between(log_ratio, -20, 20), at_most(log_correction, 20));
}
template <class V>
FG_HD V vespo_log_weight(V sum) {
  return between(sum, kLogTiny, 20);
}

/// A token's log-ratio as GMPO clips it: on one side only, by the advantage's sign.
template <class T>
FG_HD T gmpo_term(const LossParams& p, T log_ratio, T advantage) {
  return by_sign(advantage, at_most(log_ratio, p.epsilon_high), at_least(log_ratio, -p.epsilon_low));
}

/// Sums over the selected tokens of a sequence.
struct SequenceSums {
  double length = 0;     // selected tokens
  double kept = 0;       // of those, above the entropy threshold
  double log_ratio = 0;  // sum of w
  double shared = 0;     // vespo_term, or gmpo_term over the kept tokens
  double sampler = 0;    // sampler_log_ratio
  double drift = 0;

  FG_HD void add(const SequenceSums& o) {
    length += o.length, kept += o.kept, log_ratio += o.log_ratio, shared += o.shared;
    sampler += o.sampler, drift += o.drift;
  }
};

/// One token's values: w (0 on policy), the log-prob itself, old (= logp on policy), sampler (NaN: unknown, or none).
template <class T>
struct TokenValues {
  T log_ratio, logp, old, sampler, advantage;
  bool kept;
};

template <class T>
FG_HD SequenceSums sequence_term(const LossParams& p, bool has_sampler, const TokenValues<T>& v) {
  SequenceSums s;
  s.length = 1, s.kept = v.kept, s.log_ratio = v.log_ratio;
  const bool corrects = p.sampler != SamplerCorrection::none;
  const T correction = corrects ? sampler_log_ratio(v.old, v.sampler) : T(0);
  s.sampler = correction;
  s.drift = has_sampler ? drift_term(v.sampler, v.logp) : -v.log_ratio;
  if (p.loss_type == LossType::vespo)
    s.shared = vespo_term(v.log_ratio, corrects ? sampler_weight(p, correction) : T(1));
  if (p.loss_type == LossType::gmpo && v.kept) s.shared = gmpo_term(p, v.log_ratio, v.advantage);
  return s;
}

/// What a token is told of its sequence, out of the sums.
template <class T>
struct SequenceValues {
  T log_ratio, shared, sampler_weight, drift;
  T length, kept;  // at least 1
};

template <class T>
FG_HD SequenceValues<T> sequence_values(const LossParams& p, const SequenceSums& s) {
  SequenceValues<T> v;
  v.length = T(s.length > 1 ? s.length : 1), v.kept = T(s.kept > 1 ? s.kept : 1);
  v.log_ratio = T(s.log_ratio / double(v.length));
  v.drift = T(s.drift / double(v.length));
  v.shared = p.loss_type == LossType::vespo ? vespo_log_weight(T(s.shared)) : T(s.shared / double(v.kept));
  v.sampler_weight = corrects_by_sequence(p.sampler) ? sampler_weight(p, T(s.sampler)) : T(1);
  return v;
}

/// The surrogate's factor of one token.
template <class T>
FG_HD T token_factor(const LossParams& p, const SequenceValues<T>& s, const TokenValues<T>& v) {
  if (!v.kept && p.loss_type != LossType::gmpo) return 0;
  if (p.off_policy_threshold < kUnbounded && !off_policy_keeps(p, v.advantage, s.drift)) return 0;
  if (p.sampler == SamplerCorrection::none || p.loss_type == LossType::vespo) return 1;
  return corrects_by_sequence(p.sampler) ? s.sampler_weight : sampler_weight(p, sampler_log_ratio(v.old, v.sampler));
}

/// The token's loss given its sequence, and its derivatives: `own` by its log-prob, `shared` by what the sequence
/// shares (the mean log-ratio, or GMPO's mean of clipped ones).
template <class T>
struct SequenceSlopes {
  TokenLoss<Dual<T>> token;  // slope: own
  T shared;
};

template <class T>
FG_HD SequenceSlopes<T> sequence_token_loss(const LossParams& p, const SequenceValues<T>& s, const TokenValues<T>& v,
                                            T ref, T factor, bool chosen) {
  using D = Dual<T>;
  const T u = p.level == RatioLevel::token ? v.log_ratio : s.log_ratio;
  const auto inputs = [&](T by_ratio, T by_logp, T by_shared) {
    return TokenInputs<D>{{u, by_ratio}, {v.logp, by_logp}, {s.shared, by_shared}, ref, v.advantage, factor, chosen};
  };
  SequenceSlopes<T> out;
  out.token = token_loss<D>(p, inputs(p.level == RatioLevel::sequence ? 0 : 1, 1, 0));
  out.shared = 0;
  if (shares_slope(p)) out.shared = token_loss<D>(p, inputs(p.level == RatioLevel::sequence, 0, 1)).loss.slope;
  return out;
}

/// How much of the sequence's shared derivative reaches this token.
template <class T>
FG_HD T shared_part(const LossParams& p, const SequenceValues<T>& s, const TokenValues<T>& v) {
  if (p.loss_type != LossType::gmpo) return T(1) / s.length;
  if (!v.kept) return 0;
  return gmpo_term<Dual<T>>(p, {v.log_ratio, T(1)}, {v.advantage, T(0)}).slope / s.kept;
}

}  // namespace fg
