// Rewards less the KL of their completions. The estimate is math/kl.h.
#include "math/rewards_with_kl.h"

#include "kernels/cpu/tokens.h"
#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

Status check(const RewardsWithKlArgs& a) {
  for (int64_t s = 0; s < a.layout.sequences; ++s)
    if (!is_finite(a.rewards[s])) return {Fault::reward, s};
  for (int64_t row = 0; row < a.layout.rows && a.beta != 0; ++row) {
    if (!in_mask(a.layout, row)) continue;
    if (const Fault f = kl_fault(a.logps[row], a.ref_logps[row]); f != Fault::none) return {f, row};
  }
  return {};
}

}  // namespace

Status rewards_with_kl(const RewardsWithKlArgs& a) {
  if (const Status s = check(a); !s.ok()) return s;
  for (int64_t s = 0; s < a.layout.sequences; ++s) {
    double kl = 0;
    for (int64_t row = begin_of(a.layout, s); row < end_of(a.layout, s) && a.beta != 0; ++row)
      if (in_mask(a.layout, row)) kl += reward_kl(a.estimator, a.logps[row], a.ref_logps[row]);
    a.out[s] = a.rewards[s] - a.beta * kl;
  }
  return {};
}

}  // namespace fg::kernels
