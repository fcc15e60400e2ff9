#pragma once
// One row of a softmax, put together from sums that leave the target column out: log-probability, normaliser and
// entropy without cancellation. Everything is in units of logit / temperature, natural logarithms. The scalar is double
// on the CPU (a few operations per row) and float on the GPU, where a row's scalar part is on the critical path.
#include "math/scalar.h"

namespace fg {

/// Over the columns other than the target: their maximum, sum of exp(z - max), sum of (z - max) exp(z - max).
template <class T>
struct RestSumsOf {
  T max;
  T sum;
  T weighted;
};
using RestSums = RestSumsOf<double>;

template <class T>
struct RowSoftmaxOf {
  T logp;        // of the target; never > 0; -inf is legal
  T lse;         // log of the sum of exp over the whole row
  T entropy;     // of the row's distribution; >= 0
  T rest;        // 1 - p(target), exact near p = 1
  T rest_scale;  // p(j) = exp(z_j - max) * rest_scale for every other column
  T rest_shift;  // log p(j) = z_j - max + rest_shift for every other column
  bool finite;   // false: NaN, +inf, or no finite logit
};
using RowSoftmax = RowSoftmaxOf<double>;

/// log(1 + exp(x)), exact at both ends.
template <class T>
inline FG_HD T softplus(T x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

/// logp = -softplus(d), where d = log(rest's mass) - z_target: the same as -log1p(S_rest exp(M - z)) near p = 1, and
/// z - M - log S far from it, without overflow. Entropy by the chain rule: H = H(target or rest) + (1 - p) H(rest).
template <class T>
inline FG_HD RowSoftmaxOf<T> row_softmax(const RestSumsOf<T>& rest, T target) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  RowSoftmaxOf<T> out{};
  const bool has_rest = rest.sum > 0;
  out.finite = rest.sum < inf && target < inf && rest.sum == rest.sum && (has_rest || target > -inf);
  if (!out.finite) return out;
  if (!has_rest) {
    out.lse = target;
    return out;  // p = 1: logp, entropy and rest are 0
  }
  const T log_sum = std::log(rest.sum);
  const T d = (rest.max - target) + log_sum;  // +inf when the target's logit is -inf; huge logits cancel first
  out.logp = 0 - softplus(d);
  const T log_not = 0 - softplus(-d);  // log(1 - p)
  out.rest_shift = log_not - log_sum;
  out.lse = rest.max - out.rest_shift;
  out.rest = std::exp(log_not);
  out.rest_scale = out.rest / rest.sum;
  const T p = std::exp(out.logp);
  const T inside = log_sum - rest.weighted / rest.sum;
  const T entropy = out.rest * (inside - log_not) - (p > 0 ? p * out.logp : T(0));
  out.entropy = entropy > 0 ? entropy : T(0);
  return out;
}

/// Coefficients of a row's gradient by the raw logits: of every other column exp(x) (a + b x), x = (z - max) /
/// temperature; of the target `own`.
template <class T>
struct RowSlopeOf {
  T a, b, own;
};

/// Gradient of c * logp(target) + h * entropy:  T g_j = c ([j = target] - p_j) - h p_j (log p_j + H). The target's is
/// formed from 1 - p, so that it keeps its digits near p = 1 whatever the output's format.
template <class T>
inline FG_HD RowSlopeOf<T> row_slope(const RowSoftmaxOf<T>& s, T c, T h, T temperature) {
  const T k = s.rest_scale / temperature;
  const T p = std::exp(s.logp);
  return {k * (-c - (h != 0 ? h * (s.rest_shift + s.entropy) : T(0))), -k * h,
          (c * s.rest - (h != 0 && p > 0 ? h * p * (s.logp + s.entropy) : T(0))) / temperature};
}

}  // namespace fg
