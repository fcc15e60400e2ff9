#pragma once
// The formulas' scalar as a tensor: autograd differentiates what kernels differentiate by dual numbers.
#include "math/scalar.h"
#include "torch/torch_min.h"

namespace fg {

template <>
struct Ops<at::Tensor> {
  using T = at::Tensor;
  using Value = at::Tensor;
  using Bool = at::Tensor;
  static T constant(const T& like, double c) { return at::full({}, c, like.options()); }
  static T lift(const T& v) { return v; }
  static T value(const T& a) { return a.detach(); }
  static T exp(const T& a) { return at::exp(a); }
  static T log(const T& a) { return at::log(a); }
  static T sigmoid(const T& a) { return at::sigmoid(a); }
  static T softplus(const T& a) { return at::neg(at::log_sigmoid(at::neg(a))); }
  static T detach(const T& a) { return a.detach(); }
  static T add_slope(const T& a, const T& b) {  // where b is infinite, infinity - infinity must not appear in the value
    const T finite = at::where(at::isfinite(b), b, at::zeros({}, b.options()));
    return at::add(a, at::sub(finite, finite.detach()));
  }
  static T is_nan(const T& a) { return at::isnan(a); }
  static T neg(const T& a) { return at::neg(a); }
  static T add(const T& a, const T& b) { return at::add(a, b); }
  static T sub(const T& a, const T& b) { return at::sub(a, b); }
  static T mul(const T& a, const T& b) { return at::mul(a, b); }
  static T shift(const T& a, double c) { return at::add(a, c); }
  static T scale(const T& a, double c) { return at::mul(a, c); }
  static T times(const T& a, const T& c) { return at::mul(a, c); }
  static T below(const T& a, double c) { return at::lt(a, c); }
  static T less(const T& a, const T& b) { return at::lt(a, b); }
  static T both(const T& a, const T& b) { return at::logical_and(a, b); }
  static T either(const T& a, const T& b) { return at::logical_or(a, b); }
  static T choose(const T& c, const T& a, const T& b) { return at::where(c, a, b); }
  static T negate(const T& a) { return at::logical_not(a); }
  static T select(const T& c, const T& a, const T& b) { return at::where(c, a, b); }
};

}  // namespace fg
