#pragma once
// Exchanges of a rank group's tensors that lie on this rank's GPU: by NCCL, on torch's current stream.
#include <memory>
#include <vector>

#include "torch/nccl.h"
#include "torch/torch_min.h"

namespace fg {

class GpuExchange {
 public:
  /// Of one device. On the CPU (tests, with a library that stands in for NCCL) there is no stream.
  GpuExchange(const NcclPlace& place, c10::Device device);
  ~GpuExchange();

  /// Contiguous tensors on the device, in place; as RankGroup's, which says what they do. Queued, not waited for.
  void sum(const std::vector<at::Tensor>& numbers);
  void sum_at(int owner, const at::Tensor& numbers);
  void share(int owner, const at::Tensor& numbers);

  /// Whether all that was queued has been done; throws what went wrong.
  bool done();
  void abort() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fg
