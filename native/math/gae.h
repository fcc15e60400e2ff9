#pragma once
// Generalised advantage estimation, arXiv:1506.02438 eq. 16: delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t +
// gamma lambda A_{t+1}, from the last token back. What a run of tokens does to (A, V) of the token after it is a linear
// map; maps compose, and so a warp can scan them.
#include "math/moments.h"

namespace fg {

struct GaeOptions {
  double gamma = 1, lambda = 0.95;
  bool whiten = false;
};

/// The advantage and the value of a token, as the token before it sees them.
struct GaeState {
  double advantage, value;
};

/// advantage = constant + by_value V + by_advantage A, value = own + pass V, of the (A, V) behind the run. As it is
/// made: of no token at all (a masked one), which leaves both as they are.
struct GaeRun {
  double constant = 0, by_value = 0, by_advantage = 1;
  double own = 0, pass = 1;

  FG_HD GaeState operator()(const GaeState& after) const {
    return {constant + by_value * after.value + by_advantage * after.advantage, own + pass * after.value};
  }
  /// This run followed by another.
  FG_HD GaeRun then(const GaeRun& later) const {
    GaeRun r;
    r.constant = constant + by_value * later.own + by_advantage * later.constant;
    r.by_value = by_value * later.pass + by_advantage * later.by_value;
    r.by_advantage = by_advantage * later.by_advantage;
    r.own = own + pass * later.own;
    r.pass = pass * later.pass;
    return r;
  }
};

inline FG_HD GaeRun gae_token(const GaeOptions& o, double reward, double value) {
  return {reward - value, o.gamma, o.gamma * o.lambda, value, 0};
}

/// The advantage, given what all selected ones are (verl's masked_whiten). Equal advantages give exactly 0.
inline FG_HD double whitened(double advantage, const Moments& all) {
  return (advantage - all.mean) / std::sqrt(all.variance() + 1e-8);
}

}  // namespace fg
