#pragma once
// The KL to the reference as part of the reward rather than of the loss (arXiv:2203.02155; TRL's RLOOTrainer).
#include "math/kl.h"

namespace fg {

/// A token's estimate, from d = ref - logp bounded as everywhere (docs/losses.md, "KL").
inline FG_HD double reward_kl(KlEstimator kind, double logp, double ref) {
  return kl_estimate(kind, at_most(ref - logp, kMaxLogRatio));
}

}  // namespace fg
