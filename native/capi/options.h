#pragma once
// The options' structs, checked, in the kernels' form. Checks and messages follow lib/ops/config.ts.
#include "capi/check.h"
#include "kernels/kernels.h"

namespace fg::capi {

struct LossOptions {
  LossParams params;
  kernels::Normalizers normalizers;
  double temperature = 1;
  bool mask_truncated = false;
  bool reads_entropies() const { return normalizers.entropy_coef != 0 || has_entropy_mask(params); }
};
/// NULL: the defaults.
LossOptions loss_options(const fg_loss_options* options);

AdvantageOptions advantage_options(const fg_advantage_options* options);

}  // namespace fg::capi
