#pragma once
// Mean and variance in one pass that keeps its digits whatever the mean is. B. P. Welford 1962; merging two of them:
// Chan, Golub and LeVeque 1979.
#include "math/scalar.h"

namespace fg {

/// Of the numbers seen so far. Equal numbers give exactly their value as mean, and 0 squares.
struct Moments {
  double count = 0, mean = 0;
  double squares = 0;  // sum of squared distances from the mean

  FG_HD void add(double v) {
    const double distance = v - mean;
    ++count;
    mean += distance / count;
    squares += distance * (v - mean);
  }
  FG_HD void add(const Moments& o) {
    if (o.count == 0) return;
    const double distance = o.mean - mean, total = count + o.count;
    mean += distance * (o.count / total);
    squares += o.squares + distance * distance * (count * o.count / total);
    count = total;
  }
  /// Unbiased; 0 for fewer than two numbers.
  FG_HD double variance() const { return count > 1 ? squares / (count - 1) : 0; }
};

}  // namespace fg
