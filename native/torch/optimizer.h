#pragma once
// AdamW over a model's parameters: float32 gradients, moments and (for bfloat16 weights) master weights.
#include <string>
#include <utility>
#include <vector>

#include "kernels/adamw.h"
#include "torch/torch_min.h"

namespace fg {

struct AdamWOptions {
  double learning_rate, weight_decay, beta1, beta2, epsilon;
  double max_gradient_norm;  // 0: no clipping
};

class Optimizer {
 public:
  /// Keeps the given leaves (Hugging Face names) and makes them require gradients. Memory: 8 bytes per parameter for
  /// the moments, and for bfloat16 weights 4 more for the master copy and 4 for the gradient.
  explicit Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters);

  /// Adds what autograd left in the leaves to the float32 gradients. Call once after each backward.
  void collect_gradients();

  /// The float32 gradient of parameter `leaf` (made as zeros at first use), for a product that adds to it directly.
  at::Tensor gradient_of(const at::Tensor& leaf);

  /// Gradients of zeros where there are none: a step whose every part was left out is still a step.
  void complete_gradients();

  /// Norm of the accumulated gradients.
  double gradient_norm() const;

  /// One AdamW step; gradients are zero afterwards. Returns their norm before clipping. Throws when the norm is not
  /// finite: nothing is changed then, except that the gradients are zero.
  double step(const AdamWOptions& options);

  /// Forgets accumulated gradients.
  void zero_gradients();

  /// Moments, master weights and the step count, as one safetensors file; and back. load checks names and shapes.
  void save(const std::string& path) const;
  void load(const std::string& path);

  int64_t bytes() const;

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, master, gradient, moment1, moment2;
    bool touched = false;  // has a gradient since the last step
    bool decay;
  };
  std::vector<kernels::AdamWTensor> views() const;
  std::vector<std::pair<std::string, at::Tensor>> state() const;

  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace fg
