#pragma once
// The scalars a formula may be written in: float, double, Dual<...> here, at::Tensor in native/torch/tensor_ops.h.
// Formulas call Ops<T>::name only. Free functions called exp_ or clamp_ would be captured by argument-dependent look-up
// and silently become torch's in-place operators.
#include <cmath>
#include <limits>

#ifdef __CUDACC__
#define FG_HD __host__ __device__
#else
#define FG_HD
#endif

namespace fg {

/// std::isfinite, also in device code.
template <class T>
inline FG_HD bool is_finite(T v) {
  return v - v == T(0);
}

/// A value and its derivative by the one variable that the caller seeded with 1.
template <class T>
struct Dual {
  T value;
  T slope;
  FG_HD static Dual variable(T v) { return {v, T(1)}; }
  FG_HD static Dual constant(T v) { return {v, T(0)}; }
};

/// What a formula needs of its scalar. `Value` is the type of inputs that are not differentiated, `Bool` of
/// comparisons.
template <class T>
struct Ops {
  using Value = T;
  using Bool = bool;
  FG_HD static T constant(T, double c) { return T(c); }
  FG_HD static T lift(T v) { return v; }
  FG_HD static T value(T a) { return a; }
  FG_HD static T exp(T a) { return std::exp(a); }
  FG_HD static T log(T a) { return std::log(a); }
  FG_HD static T sigmoid(T a) {
    const T e = std::exp(a < 0 ? a : -a);
    return (a < 0 ? e : T(1)) / (T(1) + e);
  }
  /// log(1 + exp(a)), exact at both ends.
  FG_HD static T softplus(T a) { return (a > 0 ? a : T(0)) + std::log1p(std::exp(a > 0 ? -a : a)); }
  FG_HD static T detach(T a) { return a; }
  FG_HD static T add_slope(T a, T) { return a; }
  FG_HD static bool is_nan(T a) { return a != a; }
  FG_HD static T neg(T a) { return -a; }
  FG_HD static T add(T a, T b) { return a + b; }
  FG_HD static T sub(T a, T b) { return a - b; }
  FG_HD static T mul(T a, T b) { return a * b; }
  FG_HD static T shift(T a, double c) { return a + T(c); }
  FG_HD static T scale(T a, double c) { return a * T(c); }
  FG_HD static T times(T a, T c) { return a * c; }
  FG_HD static bool below(T a, double c) { return a < T(c); }
  FG_HD static bool less(T a, T b) { return a < b; }
  FG_HD static bool both(bool a, bool b) { return a && b; }
  FG_HD static bool either(bool a, bool b) { return a || b; }
  FG_HD static bool negate(bool a) { return !a; }
  FG_HD static bool choose(bool c, bool a, bool b) { return c ? a : b; }
  FG_HD static T select(bool c, T a, T b) { return c ? a : b; }
};

/// Both branches of select() may have been computed: the one not taken leaves no trace, in the slope either.
template <class T>
struct Ops<Dual<T>> {
  using D = Dual<T>;
  using Value = T;
  using Bool = bool;
  FG_HD static D constant(D, double c) { return {T(c), T(0)}; }
  FG_HD static D lift(T v) { return {v, T(0)}; }
  FG_HD static T value(D a) { return a.value; }
  FG_HD static D exp(D a) {
    const T e = std::exp(a.value);
    return {e, e * a.slope};
  }
  FG_HD static D log(D a) { return {std::log(a.value), a.slope / a.value}; }
  FG_HD static D sigmoid(D a) {
    const T e = std::exp(a.value < 0 ? a.value : -a.value);  // s (1 - s) would cancel near s = 1
    return {Ops<T>::sigmoid(a.value), e / ((T(1) + e) * (T(1) + e)) * a.slope};
  }
  FG_HD static D softplus(D a) { return {Ops<T>::softplus(a.value), Ops<T>::sigmoid(a.value) * a.slope}; }
  FG_HD static D detach(D a) { return {a.value, T(0)}; }
  /// a's value, with b's derivative added to a's.
  FG_HD static D add_slope(D a, D b) { return {a.value, a.slope + b.slope}; }
  FG_HD static bool is_nan(D a) { return a.value != a.value; }
  FG_HD static D neg(D a) { return {-a.value, -a.slope}; }
  FG_HD static D add(D a, D b) { return {a.value + b.value, a.slope + b.slope}; }
  FG_HD static D sub(D a, D b) { return {a.value - b.value, a.slope - b.slope}; }
  FG_HD static D mul(D a, D b) { return {a.value * b.value, a.slope * b.value + a.value * b.slope}; }
  FG_HD static D shift(D a, double c) { return {a.value + T(c), a.slope}; }
  FG_HD static D scale(D a, double c) { return {a.value * T(c), a.slope * T(c)}; }
  /// By a constant. Not mul(): 0 * infinity would appear in the slope.
  FG_HD static D times(D a, T c) { return {a.value * c, a.slope * c}; }
  FG_HD static bool below(D a, double c) { return a.value < T(c); }
  FG_HD static bool less(D a, D b) { return a.value < b.value; }
  FG_HD static bool both(bool a, bool b) { return a && b; }
  FG_HD static bool either(bool a, bool b) { return a || b; }
  FG_HD static bool negate(bool a) { return !a; }
  FG_HD static bool choose(bool c, bool a, bool b) { return c ? a : b; }
  FG_HD static D select(bool c, D a, D b) { return c ? a : b; }
};

}  // namespace fg
