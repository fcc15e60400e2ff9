#pragma once
#include "torch/model/config.h"
#include "torch/torch_min.h"

namespace fg {

/// cos and sin of the angles, float32, (positions, head_dim / 2) each, times the attention factor of yarn. Grown on
/// demand by doubling; not thread-safe: call `reserve` before a parallel region.
class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(const RopeConfig& config, int64_t head_dim);
  void reserve(int64_t positions);
  const float* cos() const { return cos_.const_data_ptr<float>(); }
  const float* sin() const { return sin_.const_data_ptr<float>(); }
  at::Tensor cos_tensor() const { return cos_; }
  at::Tensor sin_tensor() const { return sin_; }

 private:
  at::Tensor inv_freq_, cos_, sin_;
  double attention_factor_ = 1;
};

}  // namespace fg
