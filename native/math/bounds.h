#pragma once
// Bounds with a stated derivative, for every scalar of math/scalar.h.
#include "math/scalar.h"

namespace fg {

/// Log-ratios saturate here (with derivative 0 beyond), so that ratio * k3 * advantage stays finite in fp32: e^40
/// = 2.4e17.
inline constexpr double kMaxLogRatio = 40;

/// min(a, limit); at equality the derivative is a's.
template <class T>
FG_HD T at_most(T a, double limit) {
  using O = Ops<T>;
  const T bound = O::constant(a, limit);
  return O::select(O::less(bound, a), bound, a);
}

/// max(a, limit); at equality the derivative is a's.
template <class T>
FG_HD T at_least(T a, double limit) {
  using O = Ops<T>;
  return O::select(O::below(a, limit), O::constant(a, limit), a);
}

template <class T>
FG_HD T between(T a, double low, double high) {
  return at_most(at_least(a, low), high);
}

/// `positive` where a > 0, else `other`.
template <class T>
FG_HD T by_sign(T a, T positive, T other) {
  using O = Ops<T>;
  return O::select(O::less(O::constant(a, 0), a), positive, other);
}

/// x times a constant, and 0 where the constant is 0 though x may be infinite.
template <class T>
FG_HD T weighted(typename Ops<T>::Value coefficient, T x) {
  using O = Ops<T>;
  using V = Ops<typename O::Value>;
  const auto positive = V::less(V::constant(coefficient, 0), coefficient);
  const auto some = O::either(V::below(coefficient, 0), positive);
  return O::select(some, O::times(x, coefficient), O::constant(x, 0));
}

}  // namespace fg
