#pragma once
// One row of a softmax, put together from sums that leave the target column out: log-probability, normaliser and
// entropy without cancellation. Everything is in units of logit / temperature, natural logarithms, fp64 (a few
// operations per row).
#include "math/scalar.h"

namespace fg {

/// Over the columns other than the target: their maximum, sum of exp(z - max), sum of (z - max) exp(z - max).
struct RestSums {
  double max;
  double sum;
  double weighted;
};

struct RowSoftmax {
  double logp;        // of the target; never > 0; -inf is legal
  double lse;         // log of the sum of exp over the whole row
  double entropy;     // of the row's distribution; >= 0
  double rest;        // 1 - p(target), exact near p = 1
  double rest_scale;  // p(j) = exp(z_j - max) * rest_scale for every other column
  double rest_shift;  // log p(j) = z_j - max + rest_shift for every other column
  bool finite;        // false: NaN, +inf, or no finite logit
};

/// log(1 + exp(x)), exact at both ends.
inline FG_HD double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

/// logp = -softplus(d), where d = log(rest's mass) - z_target: the same as -log1p(S_rest exp(M - z)) near p = 1, and
/// z - M - log S far from it, without overflow. Entropy by the chain rule: H = H(target or rest) + (1 - p) H(rest).
inline FG_HD RowSoftmax row_softmax(const RestSums& rest, double target) {
  const double inf = std::numeric_limits<double>::infinity();
  RowSoftmax out{};
  const bool has_rest = rest.sum > 0;
  out.finite = rest.sum < inf && target < inf && rest.sum == rest.sum && (has_rest || target > -inf);
  if (!out.finite) return out;
  if (!has_rest) {
    out.lse = target;
    return out;  // p = 1: logp, entropy and rest are 0
  }
  const double log_sum = std::log(rest.sum);
  const double d = (rest.max - target) + log_sum;  // +inf when the target's logit is -inf; huge logits cancel first
  out.logp = 0 - softplus(d);
  const double log_not = 0 - softplus(-d);  // log(1 - p)
  out.rest_shift = log_not - log_sum;
  out.lse = rest.max - out.rest_shift;
  out.rest = std::exp(log_not);
  out.rest_scale = out.rest / rest.sum;
  const double p = std::exp(out.logp);
  const double inside = log_sum - rest.weighted / rest.sum;
  const double entropy = out.rest * (inside - log_not) - (p > 0 ? p * out.logp : 0.0);
  out.entropy = entropy > 0 ? entropy : 0.0;
  return out;
}

}  // namespace fg
