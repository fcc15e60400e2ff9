#pragma once
// AdamW (Loshchilov & Hutter, arXiv 1711.05101), in the form that torch.optim.AdamW computes.
#include <cmath>

#include "math/scalar.h"

namespace fg {

struct AdamWStep {
  float learning_rate;
  float beta1, beta2, epsilon;
  float weight_decay;      // decoupled; 0 for tensors that are left out
  float bias_correction1;  // 1 - beta1^t
  float bias_correction2;  // 1 - beta2^t
  float gradient_scale;    // from clipping by the global norm
};

/// The factor that brings a gradient of that norm down to `max_norm` (0: no limit), as torch.nn.utils.clip_grad_norm_.
FG_HD inline float clip_scale(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  return max_norm > 0 && factor < 1 ? static_cast<float>(factor) : 1.0f;
}

/// One element: updates the moments in place and returns the new parameter.
FG_HD inline float adamw(const AdamWStep& s, float parameter, float gradient, float& moment1, float& moment2) {
  const float g = gradient * s.gradient_scale;
  moment1 = s.beta1 * moment1 + (1.0f - s.beta1) * g;
  moment2 = s.beta2 * moment2 + (1.0f - s.beta2) * g * g;
  const float denominator = std::sqrt(moment2) / std::sqrt(s.bias_correction2) + s.epsilon;
  const float decayed = parameter - s.learning_rate * s.weight_decay * parameter;
  return decayed - (s.learning_rate / s.bias_correction1) * moment1 / denominator;
}

}  // namespace fg
