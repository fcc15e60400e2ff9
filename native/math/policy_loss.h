#pragma once
// The policy-gradient loss of one token, once for every scalar: kernels instantiate it with dual numbers (value and
// derivative together), tests with double, the unfused reference with at::Tensor (autograd differentiates).
// It knows neither the vocabulary nor how tokens are averaged: see token_weight() in math/loss_params.h for that, and
// math/sequence_sums.h for what a token must know of its sequence. docs/losses.md lists the formulas.
#include "math/kl.h"

namespace fg {

/// What the formula is told of a token. Differentiated: log_ratio, logp, shared.
template <class T>
struct TokenInputs {
  using Value = typename Ops<T>::Value;
  T log_ratio;                     // of the importance ratio, at the level asked for
  T logp;                          // of the token
  T shared;                        // vespo: log of the sequence's weight; gmpo: mean clipped log-ratio; else not read
  Value ref;                       // read only when beta is not 0
  Value advantage;                 //
  Value factor;                    // of the surrogate: masks and corrections
  typename Ops<T>::Bool chosen{};  // by the covariance; read by clip_cov and kl_cov only
};

template <class T>
struct TokenLoss {
  T loss;
  T kl;                                             // what beta multiplies (0 without beta)
  T ratio;                                          // before delta
  typename Ops<T>::Bool clipped_low, clipped_high;  // clipped and advantage-aware, as TRL counts them
};

/// A surrogate and where it was clipped.
template <class T>
struct Surrogate {
  T loss;
  typename Ops<T>::Bool low, high;
};

/// Below `low` with a negative advantage, above `high` with a positive one: where clipping takes the gradient away.
template <class T>
FG_HD Surrogate<T> with_clip_flags(T loss, T x, double low, double high, T advantage) {
  using O = Ops<T>;
  return {loss, O::both(O::below(x, low), O::below(advantage, 0)),
          O::both(O::less(O::constant(x, high), x), O::less(O::constant(advantage, 0), advantage))};
}

/// PPO's clip, arXiv:1707.06347 eq. 7; delta: two-sided clip, arXiv:2505.07291; dual clip: arXiv:1912.09729.
template <class T>
FG_HD Surrogate<T> clip_surrogate(const LossParams& p, T ratio, T a) {
  using O = Ops<T>;
  const double low = 1 - p.epsilon_low, high = 1 + p.epsilon_high;
  const T bounded = p.delta < kUnbounded ? at_most(ratio, p.delta) : ratio;
  const T free_term = O::mul(bounded, a), clipped_term = O::mul(between(ratio, low, high), a);
  T gain = O::select(O::less(clipped_term, free_term), clipped_term, free_term);
  if (p.dual_clip < kUnbounded) {
    const T floor = O::scale(a, p.dual_clip);
    gain = O::select(O::both(O::below(a, 0), O::less(gain, floor)), floor, gain);
  }
  return with_clip_flags(O::neg(gain), bounded, low, high, a);
}

/// -min(ratio, bound) A logp with the ratio a constant. CISPO, arXiv:2506.13585.
template <class T>
FG_HD Surrogate<T> cispo_surrogate(const LossParams& p, T ratio, T a, T logp) {
  using O = Ops<T>;
  const auto coefficient = O::value(O::mul(at_most(ratio, p.epsilon_high), a));
  return with_clip_flags(O::neg(weighted(coefficient, logp)), ratio, -kUnbounded, p.epsilon_high, a);
}

/// A sigmoid gate around ratio 1 instead of a clip. SAPO, arXiv:2511.20347.
template <class T>
FG_HD T sapo_surrogate(const LossParams& p, T ratio, T a) {
  using O = Ops<T>;
  const T tau = by_sign(a, O::constant(a, p.sapo_temperature_pos), O::constant(a, p.sapo_temperature_neg));
  const T scale = by_sign(a, O::constant(a, 4 / p.sapo_temperature_pos), O::constant(a, 4 / p.sapo_temperature_neg));
  return O::neg(O::mul(O::mul(O::sigmoid(O::mul(tau, O::shift(ratio, -1.0))), scale), a));
}

/// phi(w), a gamma density of the sequence's weight w = e^q with phi(1) = 1, by the advantage's sign. Plain values.
template <class V>
FG_HD V vespo_phi(const LossParams& p, V q, V advantage) {
  using O = Ops<V>;
  const V w = O::exp(q);
  const auto log_phi = [&](double k, double lambda) {
    const double l = lambda > 1e-4 ? lambda : 1e-4;
    return O::shift(O::sub(O::scale(q, k), O::scale(w, l)), l);
  };
  const V positive = log_phi(p.vespo_k_pos, p.vespo_lambda_pos), negative = log_phi(p.vespo_k_neg, p.vespo_lambda_neg);
  return O::exp(O::select(O::below(advantage, 0), negative, positive));
}

/// -phi A logp with phi a constant. VESPO, arXiv:2602.10693.
template <class T>
FG_HD T vespo_surrogate(const LossParams& p, const TokenInputs<T>& in) {
  using O = Ops<T>;
  const auto phi = vespo_phi(p, O::value(in.shared), in.advantage);
  return O::neg(weighted(Ops<typename O::Value>::mul(phi, in.advantage), in.logp));
}

/// Keeps a token whose probability has not moved too far in the advantage's direction. DPPO, arXiv:2602.04879; plain
/// values.
template <class V>
FG_HD typename Ops<V>::Bool dppo_keeps(const LossParams& p, V logp, V log_ratio, V advantage) {
  using O = Ops<V>;
  const V old = O::sub(logp, log_ratio), now_p = O::exp(logp), old_p = O::exp(old);
  const auto not_positive = O::negate(O::less(O::constant(advantage, 0), advantage));
  const auto above = [](V x, double bound) { return O::less(O::constant(x, bound), x); };
  if (p.dppo_divergence == Divergence::tv) {
    const V moved = O::sub(now_p, old_p);
    const auto too_low = O::below(moved, -p.epsilon_low), too_high = above(moved, p.epsilon_high);
    return O::negate(O::choose(not_positive, too_low, too_high));
  }
  const auto rest = [](V x) { return O::log(O::shift(O::shift(O::neg(x), 1.0), 1e-8)); };
  const V away =
      O::add(O::mul(old_p, O::neg(log_ratio)), O::mul(O::shift(O::neg(old_p), 1.0), O::sub(rest(old_p), rest(now_p))));
  const auto too_low = O::both(above(away, p.epsilon_low), O::less(now_p, old_p));
  const auto too_high = O::both(above(away, p.epsilon_high), O::less(old_p, now_p));
  return O::negate(O::choose(not_positive, too_low, too_high));
}

template <class T>
FG_HD Surrogate<T> dppo_surrogate(const LossParams& p, const TokenInputs<T>& in, T ratio, T a) {
  using O = Ops<T>;
  const auto keeps = dppo_keeps(p, O::value(in.logp), O::value(in.log_ratio), in.advantage);
  const T zero = O::constant(a, 0);
  const T coefficient = O::select(keeps, O::mul(at_most(ratio, p.dppo_ratio_max), a), zero);
  const T loss = O::neg(weighted(O::value(coefficient), in.logp));
  const auto dropped = O::negate(keeps), positive = O::less(zero, a);
  return {loss, O::both(dropped, O::negate(positive)), O::both(dropped, positive)};
}

/// No clip; a penalty on the tokens whose covariance with the advantage is largest. KL-Cov, arXiv:2505.22617.
template <class T>
FG_HD T kl_cov_surrogate(const LossParams& p, const TokenInputs<T>& in, T ratio, T a) {
  using O = Ops<T>;
  const T zero = O::constant(a, 0), moved = in.log_ratio;
  const T distance = O::select(O::below(moved, 0), O::neg(moved), by_sign(moved, moved, O::detach(moved)));
  return O::sub(O::select(in.chosen, O::scale(distance, p.kl_cov_coef), zero), O::mul(ratio, a));
}

template <class T>
FG_HD Surrogate<T> surrogate(const LossParams& p, const TokenInputs<T>& in, T ratio, T a) {
  using O = Ops<T>;
  const auto never = O::below(O::constant(a, 0), 0);
  switch (p.loss_type) {
    case LossType::cispo:
      return cispo_surrogate(p, ratio, a, in.logp);
    case LossType::sapo:
      return {sapo_surrogate(p, ratio, a), never, never};
    case LossType::vespo:
      return {vespo_surrogate(p, in), never, never};
    case LossType::gmpo: {  // the geometric mean of the sequence's ratios, arXiv:2507.20673
      const T loss = O::neg(O::mul(O::exp(at_most(in.shared, kMaxLogRatio)), a));
      return with_clip_flags(loss, in.log_ratio, -p.epsilon_low, p.epsilon_high, a);
    }
    case LossType::reinforce:
      return {O::neg(weighted(in.advantage, in.logp)), never, never};
    case LossType::dppo:
      return dppo_surrogate(p, in, ratio, a);
    case LossType::kl_cov:
      return {kl_cov_surrogate(p, in, ratio, a), never, never};
    case LossType::clip_cov: {  // Clip-Cov, arXiv:2505.22617
      Surrogate<T> s = clip_surrogate(p, ratio, a);
      s.loss = O::select(in.chosen, O::constant(a, 0), s.loss);
      return s;
    }
    default:
      return clip_surrogate(p, ratio, a);
  }
}

template <class T>
FG_HD TokenLoss<T> token_loss(const LossParams& p, const TokenInputs<T>& in) {
  using O = Ops<T>;
  const T ratio = O::exp(at_most(in.log_ratio, kMaxLogRatio)), a = O::lift(in.advantage);
  const Surrogate<T> s = surrogate(p, in, ratio, a);
  TokenLoss<T> out{weighted(in.factor, s.loss), O::constant(ratio, 0), ratio, s.low, s.high};
  if (p.beta == 0) return out;
  out.kl = kl_term(p, in.logp, in.ref, ratio);
  out.loss = O::add(out.loss, O::scale(out.kl, p.beta));
  return out;
}

/// The token-level log-ratio. On policy (no old log-probs) it is 0 with derivative 1, whatever logp is.
template <class T>
FG_HD Dual<T> token_log_ratio(Dual<T> logp, bool on_policy, T old) {
  if (on_policy) return {T(0), logp.slope};
  return {logp.value - old, logp.slope};
}

/// A token's loss where it depends on no other token, and its derivative by logp. On policy `old` is not looked at.
template <class T>
FG_HD TokenLoss<Dual<T>> token_slope(const LossParams& p, T logp, bool on_policy, T old, T ref, T advantage, T factor) {
  using D = Dual<T>;
  const D x = D::variable(logp);
  return token_loss<D>(p, {token_log_ratio(x, on_policy, old), x, D::constant(0), ref, advantage, factor, false});
}

}  // namespace fg
