#pragma once
// Formulas of sampling from logits; the loops over the vocabulary are in kernels/cpu/sampling.cc and
// kernels/cuda/sampling.cu.
#include <cmath>
#include <cstdint>

#include "math/scalar.h"

namespace fg {

/// log softmax of one entry. `gap` = (z - max z) / temperature <= 0, `rest` = sum over all other entries of exp((z_j -
/// max z) / temperature). Exact near probability 1 and never positive; far below the maximum it cannot overflow.
FG_HD inline double log_softmax(double gap, double rest, double all) {
  return gap > -30 ? -std::log1p(rest * std::exp(-gap)) : gap - std::log(all);
}

/// A repetition penalty moves a logit towards "less likely", whatever its sign (CTRL, arXiv:1909.05858, as in
/// transformers).
FG_HD inline float penalised(float z, float penalty) { return z > 0 ? z / penalty : z * penalty; }

}  // namespace fg
