#pragma once
// The sum of all ranks' gradients, begun while the last backward still runs.
#include <memory>
#include <vector>

#include "torch/optimizer.h"
#include "torch/rank_group.h"

namespace fg {

class GradientSum {
 public:
  GradientSum(Optimizer& optimizer, RankGroup& group, const std::atomic<bool>& abort);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// Waits for the other ranks; from the next backward on a gradient is final when autograd has added to it.
  /// `without_autograd`: leaves whose gradients are final before that backward begins.
  void before_last_backward(const std::vector<at::Tensor>& without_autograd);
  /// Sums what has not been begun, and waits for all of it. Every rank must come here, whatever happened to it: the
  /// others wait for its numbers.
  void finish();

 private:
  struct Progress;
  void remove_hooks();

  Optimizer& optimizer_;
  RankGroup& group_;
  const std::atomic<bool>& abort_;
  std::shared_ptr<Progress> progress_;
  bool met_ = false;
};

}  // namespace fg
