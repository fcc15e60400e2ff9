#pragma once
// Bradley-Terry: -log sigmoid(chosen - rejected - margin), as a reward model is trained (arXiv:2203.02155 eq. 1; the
// margin: arXiv:2307.09288 eq. 2), and the centering term coefficient (chosen + rejected)^2 (arXiv:2312.09244), which
// takes away the freedom that differences leave.
#include "math/scalar.h"

namespace fg {

struct PreferenceLoss {
  double loss, by_chosen, by_rejected;
};

/// Neither overflows nor loses digits, however far apart the rewards are.
inline FG_HD PreferenceLoss preference_pair(double chosen, double rejected, double margin, double coefficient) {
  const double x = chosen - rejected - margin, sum = chosen + rejected;
  const double loss = (x < 0 ? -x : 0.0) + std::log1p(std::exp(-std::fabs(x)));
  const double slope = -1 / (1 + std::exp(x)), centering = 2 * coefficient * sum;
  return {loss + coefficient * sum * sum, slope + centering, -slope + centering};
}

}  // namespace fg
