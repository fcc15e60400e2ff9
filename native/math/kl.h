#pragma once
// The KL estimate of one token, J. Schulman's k1, k2, k3; which derivative it has is an option of its own.
//   k3 in GRPO: arXiv:2402.03300 eq. 4. Times the ratio: arXiv:2512.02556 (DeepSeek-V3.2).
//   The derivative of k2 behind any value: verl's k1+, k3+. Score-function term: arXiv:2506.09477.
#include "math/bounds.h"
#include "math/loss_params.h"

namespace fg {

/// From d = ref - logp.
template <class T>
FG_HD T kl_estimate(KlEstimator kind, T d) {
  using O = Ops<T>;
  if (kind == KlEstimator::k1) return O::neg(d);
  if (kind == KlEstimator::k2) return O::scale(O::mul(d, d), 0.5);
  return O::shift(O::sub(O::exp(d), d), -1.0);
}

template <class T>
FG_HD T kl_term(const LossParams& p, T logp, typename Ops<T>::Value ref, T ratio) {
  using O = Ops<T>;
  const T d = at_most(O::sub(O::lift(ref), logp), kMaxLogRatio);
  T kl = kl_estimate(p.kl, d);
  if (p.kl_gradient == KlGradient::straight_through) kl = O::add_slope(O::detach(kl), kl_estimate(KlEstimator::k2, d));
  if (p.kl_gradient == KlGradient::score_function) kl = O::add_slope(kl, O::mul(O::detach(kl), logp));
  return p.bias_correction_kl ? O::mul(kl, ratio) : kl;
}

}  // namespace fg
