#pragma once
// The critic's squared error, clipped around the old value as PPO's code does it (arXiv:2005.12729, TRL and verl).
#include "math/bounds.h"

namespace fg {

/// A token's error, for every scalar.
template <class T>
struct ValueTerm {
  T loss;
  typename Ops<T>::Bool clipped;  // the error of the held value was the larger one
};

/// Half the larger of two squared errors: of v, and of v held within `clip` of `old` (kUnbounded: one error only). At a
/// tie the derivative is the first's.
template <class T>
FG_HD ValueTerm<T> value_term(T v, typename Ops<T>::Value target, typename Ops<T>::Value old, double clip) {
  using O = Ops<T>;
  using V = Ops<typename O::Value>;
  const auto half_square = [&](T x) {
    const T distance = O::sub(x, O::lift(target));
    return O::scale(O::mul(distance, distance), 0.5);
  };
  const T low = O::lift(V::shift(old, -clip)), high = O::lift(V::shift(old, clip));
  T held = O::select(O::less(v, low), low, v);
  held = O::select(O::less(high, held), high, held);
  const T plain = half_square(v), bounded = half_square(held);
  const auto clipped = O::less(plain, bounded);
  return {O::select(clipped, bounded, plain), clipped};
}

struct ValueError {
  double loss, by_value;
  bool clipped;
};
inline FG_HD ValueError value_error(double value, double target, double old, double clip) {
  const auto e = value_term<Dual<double>>(Dual<double>::variable(value), target, old, clip);
  return {e.loss.value, e.loss.slope + 0.0, e.clipped};  // + 0: never -0
}

}  // namespace fg
