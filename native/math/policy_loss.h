#pragma once
// The policy-gradient formula of one token, once for every scalar: kernels instantiate it with dual numbers (value and
// derivative together), tests with double, the unfused reference with at::Tensor (autograd differentiates).
// It knows neither the vocabulary nor how tokens are averaged: see token_weight() for that.
//
//   ratio     r = exp(w), w = the log-ratio (token level: logp - old)
//   surrogate   = -min(min(r, delta) A, clamp(r, 1 - eps_low, 1 + eps_high) A)    PPO clip, arXiv:1707.06347 eq. 7;
//                                                                                 delta: arXiv:2505.07291 (two-sided
//                                                                                 clip)
//   k3          = exp(ref - logp) - (ref - logp) - 1, times r when bias-corrected  arXiv:2402.03300 eq. 4,
//   arXiv:2512.02556 loss        = surrogate + beta * kl
#include <cstdint>

#include "math/scalar.h"

namespace fg {

/// How token losses become one number (the meaning of `lossType` in TRL's GRPOConfig).
enum class LossType : uint8_t { grpo, bnpo, dr_grpo, dapo };
enum class KlEstimator : uint8_t { k1, k2, k3 };

inline constexpr double kNoDelta = std::numeric_limits<double>::infinity();

struct LossParams {
  LossType loss_type = LossType::dapo;
  KlEstimator kl = KlEstimator::k3;
  bool bias_correction_kl = true;
  double epsilon_low = 0.2;
  double epsilon_high = 0.2;
  double delta = kNoDelta;  // infinity: no second clip
  double beta = 0;
};

/// Log-ratios saturate here (with derivative 0 beyond), so that ratio * k3 * advantage stays finite in fp32: e^40
/// = 2.4e17.
inline constexpr double kMaxLogRatio = 40;

template <class T>
struct TokenLoss {
  T loss;
  T kl;                                             // what beta multiplies (0 without beta)
  T ratio;                                          // before delta
  typename Ops<T>::Bool clipped_low, clipped_high;  // clipped and advantage-aware, as TRL counts them
};

/// min(a, limit); at equality the derivative is a's.
template <class T>
FG_HD T at_most(T a, double limit) {
  using O = Ops<T>;
  const T bound = O::constant(a, limit);
  return O::select(O::less(bound, a), bound, a);
}

template <class T>
FG_HD T at_least(T a, double limit) {
  using O = Ops<T>;
  return O::select(O::below(a, limit), O::constant(a, limit), a);
}

/// The KL estimate of one token from d = ref - logp.
template <class T>
FG_HD T kl_estimate(KlEstimator kind, T logp, typename Ops<T>::Value ref) {
  using O = Ops<T>;
  const T d = at_most(O::sub(O::lift(ref), logp), kMaxLogRatio);
  if (kind == KlEstimator::k1) return O::neg(d);
  if (kind == KlEstimator::k2) return O::scale(O::mul(d, d), 0.5);
  return O::shift(O::sub(O::exp(d), d), -1.0);
}

/// `log_ratio` carries the derivative of the importance ratio, `logp` that of the KL term; `ref` is read only when beta
/// is not 0.
template <class T>
FG_HD TokenLoss<T> token_loss(const LossParams& p, T log_ratio, T logp, typename Ops<T>::Value ref,
                              typename Ops<T>::Value advantage) {
  using O = Ops<T>;
  const T ratio = O::exp(at_most(log_ratio, kMaxLogRatio));
  const T clipped = at_most(at_least(ratio, 1 - p.epsilon_low), 1 + p.epsilon_high);
  const T bounded = p.delta < kNoDelta ? at_most(ratio, p.delta) : ratio;
  const T a = O::lift(advantage);
  const T free_term = O::mul(bounded, a), clipped_term = O::mul(clipped, a);
  const T surrogate = O::neg(O::select(O::less(clipped_term, free_term), clipped_term, free_term));
  TokenLoss<T> out{
      surrogate, O::constant(ratio, 0), ratio, O::both(O::below(bounded, 1 - p.epsilon_low), O::below(a, 0.0)),
      O::both(O::less(O::constant(bounded, 1 + p.epsilon_high), bounded), O::less(O::constant(a, 0.0), a))};
  if (p.beta == 0) return out;
  out.kl = kl_estimate(p.kl, logp, ref);
  if (p.bias_correction_kl) out.kl = O::mul(out.kl, ratio);
  out.loss = O::add(surrogate, O::scale(out.kl, p.beta));
  return out;
}

/// The token-level log-ratio. On policy (no old log-probs) it is 0 with derivative 1, whatever logp is.
template <class T>
FG_HD Dual<T> on_policy_log_ratio(Dual<T> logp) {
  return {T(0), logp.slope};
}

/// One token's loss and its derivative by logp. On policy `old` is not looked at.
template <class T>
FG_HD TokenLoss<Dual<T>> token_slope(const LossParams& p, T logp, bool on_policy, T old, T ref, T advantage) {
  using D = Dual<T>;
  const D x = D::variable(logp);
  const D log_ratio = on_policy ? on_policy_log_ratio(x) : Ops<D>::sub(x, D::constant(old));
  return token_loss<D>(p, log_ratio, x, ref, advantage);
}

/// The factor of a token's loss in the total: `normalizer` counts what the loss type says (tokens, sequences, or
/// sequences * maxCompletionLength) over the whole optimizer step; `length` is the sequence's number of selected
/// tokens.
inline FG_HD double token_weight(LossType type, double normalizer, int64_t length) {
  const double per_sequence = type == LossType::grpo && length > 1 ? double(length) : 1.0;
  return 1.0 / (per_sequence * normalizer);
}

}  // namespace fg
