#pragma once
// Advantages for Pass@k training in closed form, arXiv:2508.10751: of every subset of k of the n completions, the
// reward is the best of the k; a completion's advantage is the mean over the subsets that contain it.
#include <cstdint>

#include "math/scalar.h"

namespace fg {

struct PassAtK {
  double pass = 0;              // mean reward of the subsets: the estimate of Pass@k
  double right = 0, wrong = 0;  // advantages; 0 where all subsets have the same reward
};

/// Of n completions, `wrong` of them with reward 0. Binomials come as products of ratios: nothing overflows.
inline FG_HD PassAtK pass_at_k(int64_t n, int64_t wrong, int64_t k) {
  PassAtK p;
  if (n < 1 || k > n) return p;
  // C(wrong - 1, k - 1) / C(n - 1, k - 1): all others of a wrong completion's subset are wrong too
  double companions = 1;
  for (int64_t i = 1; i < k && companions > 0; ++i) companions *= wrong > i ? double(wrong - i) / double(n - i) : 0.0;
  const double fails = companions * double(wrong) / double(n);  // C(wrong, k) / C(n, k)
  p.pass = 1 - fails;
  const double sigma = std::sqrt(p.pass * fails);
  if (sigma == 0) return p;
  p.right = fails / sigma;
  p.wrong = -companions * (double(n - wrong) / double(n)) / sigma;  // (fails - companions) / sigma
  return p;
}

}  // namespace fg
