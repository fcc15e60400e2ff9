#pragma once
// The unfused twins of kernels::value_loss and preference_loss: the same header on tensors, differentiated by autograd.
// For tests.
#include "kernels/value_ops.h"
#include "torch/torch_min.h"

namespace fg {

/// fp64; gradients (rows), or (pairs).
struct UnfusedValueLoss {
  double loss = 0;
  at::Tensor grad_values;
};
struct UnfusedPreferenceLoss {
  double loss = 0;
  at::Tensor grad_chosen, grad_rejected;
};

UnfusedValueLoss unfused_value_loss(const kernels::ValueLossArgs&);
UnfusedPreferenceLoss unfused_preference_loss(const kernels::PreferenceLossArgs&);

}  // namespace fg
