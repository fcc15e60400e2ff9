#pragma once
// Bradley-Terry: -log sigmoid(chosen - rejected - margin), as a reward model is trained (arXiv:2203.02155 eq. 1; the
// margin: arXiv:2307.09288 eq. 2), and the centering term coefficient (chosen + rejected)^2 (arXiv:2312.09244), which
// takes away the freedom that differences leave.
#include "math/scalar.h"

namespace fg {

/// Of one pair, for every scalar. Neither overflows nor loses digits, however far apart the rewards are.
template <class T>
FG_HD T preference_term(T chosen, T rejected, typename Ops<T>::Value margin, double coefficient) {
  using O = Ops<T>;
  const T x = O::sub(O::sub(chosen, rejected), O::lift(margin)), sum = O::add(chosen, rejected);
  return O::add(O::softplus(O::neg(x)), O::scale(O::mul(sum, sum), coefficient));
}

struct PreferenceLoss {
  double loss, by_chosen, by_rejected;
};
inline FG_HD PreferenceLoss preference_pair(double chosen, double rejected, double margin, double coefficient) {
  using D = Dual<double>;
  const D c = preference_term<D>(D::variable(chosen), D::constant(rejected), margin, coefficient);
  const D r = preference_term<D>(D::constant(chosen), D::variable(rejected), margin, coefficient);
  return {c.value, c.slope, r.slope};
}

}  // namespace fg
