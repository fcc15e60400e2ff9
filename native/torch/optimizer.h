#pragma once
// AdamW over a model's parameters: float32 gradients, moments and (for bfloat16 weights) master weights.
#include <memory>
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

class RankGroup;

class Optimizer {
 public:
  /// Numbers [begin, end) of a parameter, flat, whose moments and master weights `owner` holds.
  struct Piece {
    int owner;
    int64_t begin, end;
  };

  /// Keeps the given leaves (Hugging Face names) and makes them require gradients. Memory: 8 bytes per parameter for
  /// the moments, and for bfloat16 weights 4 more for the master copy and 4 for the gradient.
  explicit Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters);

  /// Adds what autograd left in the leaves to the float32 gradients. Call once after each backward.
  void collect_gradients();

  /// The float32 gradient of parameter `leaf` (made as zeros at first use), for a product that adds to it directly.
  at::Tensor gradient_of(const at::Tensor& leaf);

  size_t size() const { return slots_.size(); }
  const at::Tensor& parameter(size_t i) const { return slots_[i].parameter; }
  /// Gradient i with what autograd left, zeros where there is none; float32, contiguous.
  at::Tensor final_gradient(size_t i);

  /// Divides moments and master weights among the ranks of `group`, which then make each step together. Before the
  /// first step or load(). All parameters, one after the other, are cut into parts of equal size.
  void shard(std::shared_ptr<RankGroup> group);
  bool sharded() const { return group_ != nullptr; }
  std::vector<Piece> pieces(size_t i) const;

  /// Gradients of zeros where there are none: a step whose every part was left out is still a step.
  void complete_gradients();

  /// Norm of this rank's accumulated gradients.
  double gradient_norm() const;

  /// One AdamW step; gradients are zero afterwards. Returns their norm before clipping. Throws when the norm is not
  /// finite: nothing is changed then, except that the gradients are zero.
  double step(const AdamWOptions& options);

  /// Forgets accumulated gradients.
  void zero_gradients();

  /// Moments, master weights and the step count, as one safetensors file; and back. load checks names and shapes.
  /// Sharded: every rank must call save, rank 0 writes, and holds all of it meanwhile; the file is the same.
  void save(const std::string& path) const;
  void load(const std::string& path);

  int64_t bytes() const;

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, master, gradient, moment1, moment2;
    bool touched = false;  // has a gradient since the last step
    bool decay;
    int64_t begin = 0, end = 0;  // what of it this rank has moments of
  };
  void collect(Slot& slot);
  std::vector<kernels::AdamWTensor> views() const;
  /// By name: moments and masters, as far as this rank has them.
  std::vector<std::pair<std::string, at::Tensor>> state() const;

  void share_parameters();

  std::vector<Slot> slots_;
  std::vector<int64_t> starts_;  // where each begins among all numbers
  std::shared_ptr<RankGroup> group_;
  int64_t steps_ = 0;
};

}  // namespace fg
