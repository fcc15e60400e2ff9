#pragma once
// Process supervision, arXiv:2402.03300 section 4.1.3: a token's advantage is the sum of the normalised rewards of the
// steps that end at it or later. How a reward is normalised is math/advantage.h, over all steps of the group.
#include "math/advantage.h"

namespace fg {

/// The first of the ascending end(0) ... end(n - 1) that is not before `row`; n: none.
template <class Read>
inline FG_HD int64_t step_from(Read end, int64_t n, int64_t row) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (end(middle) < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

}  // namespace fg
