#pragma once
// The critic's squared error, clipped around the old value as PPO's code does it (arXiv:2005.12729, TRL and verl).
#include "math/bounds.h"

namespace fg {

struct ValueError {
  double loss, by_value;
  bool clipped;  // the error of the held value was the larger one
};

/// Half the larger of two squared errors: of v, and of v held within `clip` of `old` (kUnbounded: one error only). At a
/// tie the derivative is the first's.
inline FG_HD ValueError value_error(double value, double target, double old, double clip) {
  using D = Dual<double>;
  using O = Ops<D>;
  const auto half_square = [target](D x) {
    const D distance = O::shift(x, -target);
    return O::scale(O::mul(distance, distance), 0.5);
  };
  const D v = D::variable(value), plain = half_square(v), held = half_square(between(v, old - clip, old + clip));
  const bool clipped = O::less(plain, held);
  const D error = O::select(clipped, held, plain);
  return {error.value, error.slope + 0.0, clipped};  // + 0: never -0
}

}  // namespace fg
