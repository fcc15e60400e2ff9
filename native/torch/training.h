#pragma once
// Gradients of one optimizer step: the batch is cut into micro-batches; each runs the model forward, the head with the
// fused loss (linear_loss.h: logits exist for a part of the rows at a time), and the backward.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "torch/model/transformer.h"
#include "torch/optimizer.h"
#include "torch/packing.h"
#include "torch/rank_group.h"
#include "torch/scalar_batches.h"

namespace fg {

/// Sequences (B), each prompt then completion; N completion tokens in total.
struct TrainBatch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> offsets;         // (B + 1)
  std::vector<int32_t> prompt_lengths;  // (B), at least 1 each
  std::vector<float> advantages;        // (B) or (N)
  std::vector<float> old_logps;         // (N) or empty: on policy
  std::vector<float> ref_logps;         // (N) or empty
  std::vector<float> sampler_logps;     // (N) or empty; NaN: unknown
  std::vector<uint8_t> mask;            // (N) or empty: all selected
  std::vector<uint8_t> truncated;       // (B) or empty

  int64_t sequences() const { return static_cast<int64_t>(prompt_lengths.size()); }
  int64_t length(int64_t s) const { return offsets[s + 1] - offsets[s]; }
  int64_t completion(int64_t s) const { return length(s) - prompt_lengths[s]; }
};

struct TrainOptions {
  LossParams loss;
  double temperature = 1;
  double normalizer = 1;                       // of the whole optimizer step
  double entropy_weight = 0;                   // entropyCoef / (tokens of the whole optimizer step)
  int64_t micro_batch_tokens = 0;              // rows of one forward and backward; 0: row_budget()
  int64_t workspace_bytes = int64_t{1} << 28;  // for logits
  bool skip_zero_advantages = false;           // sequences without any gradient are left out, of the metrics as well
  bool fused = true;                           // false: the unfused libtorch twin, differentiated by autograd
};

struct TrainResult {
  kernels::PolicyMetrics metrics;
  double logp_sum = 0;  // over selected tokens
};

class Trainer {
 public:
  explicit Trainer(std::shared_ptr<Transformer> model)
      : owner_(std::move(model)), model_(*owner_), optimizer_(freeze(model_)) {}

  Optimizer& optimizer() { return optimizer_; }
  /// The gradients of the next call become the sums of all ranks' in `group`, whose members all make that call (an
  /// empty batch is one); null: this process's alone.
  void sum_over(std::shared_ptr<RankGroup> group) { group_ = std::move(group); }
  /// Bytes that a row of a micro-batch needs, about, its logits left out (fused: they are bounded by the workspace).
  int64_t bytes_per_row() const { return bytes_per_row(model_.recomputes_training()); }

  /// Adds the gradients of the batch to the optimizer's. Throws CodedError (ERR_ABORTED when `abort` was set,
  /// ERR_NON_FINITE, ...); the accumulated gradients are then incomplete and must be thrown away with
  /// optimizer().zero_gradients().
  TrainResult accumulate(const TrainBatch& batch, const TrainOptions& options, const std::atomic<bool>& abort);
  /// The same for models with a scalar head (scalar_training.cc).
  PairResult accumulate_pairs(const PairBatch& batch, const PairOptions& options, const std::atomic<bool>& abort);
  ValueResult accumulate_values(const ValueBatch& batch, const ValueOptions& options, const std::atomic<bool>& abort);

 private:
  struct Part;  // one micro-batch
  using Parts = std::vector<std::vector<int64_t>>;
  /// Runs `micro_batch` on one part of the sequences after the other, each in its own memory.
  void each_part(const std::vector<Sequence>& sequences, const Parts& parts, int64_t workspace,
                 const std::atomic<bool>& abort,
                 const std::function<void(const std::vector<int64_t>& members)>& micro_batch);
  /// From the derivatives of the loss by the values of `rows` to the gradients of all parameters.
  void scalar_backward(const at::Tensor& rows, const std::vector<float>& by_value);
  Part gather(const TrainBatch& batch, const std::vector<int64_t>& starts, const std::vector<int64_t>& members) const;
  void micro_batch(const TrainBatch& batch, const std::vector<int64_t>& starts, const std::vector<Sequence>& sequences,
                   const std::vector<int64_t>& members, const TrainOptions& options, TrainResult& result);
  static bool contributes(const TrainBatch& batch, const std::vector<int64_t>& starts, int64_t sequence);
  /// Nothing requires a gradient any more; returns what training changes, for the optimizer.
  static NamedTensors freeze(Transformer& model);
  int64_t bytes_per_row(bool recompute) const;
  /// Rows of a micro-batch: as many as are asked for; 0: about 1.5 GB, of which each row needs `more_bytes` besides.
  /// With gradient checkpointing as many as without it: it is there to need less.
  int64_t row_budget(int64_t asked, int64_t more_bytes = 0) const;
  /// Says which microBatchTokens would fit; `before`: bytes in use when the micro-batch began; `workspace`: of logits.
  [[noreturn]] void throw_out_of_memory(const std::vector<Sequence>& sequences, const std::vector<int64_t>& members,
                                        size_t before, int64_t workspace) const;
  kernels::PolicyMetrics fused_loss(Part& part, const TrainOptions& options, const at::Tensor& rows);
  kernels::PolicyMetrics unfused_loss(Part& part, const TrainOptions& options, const at::Tensor& rows);

  /// The loop of each_part; `before_last` is called before the last part.
  void run_parts(const std::vector<Sequence>& sequences, const Parts& parts, int64_t workspace,
                 const std::atomic<bool>& abort, const std::function<void(const std::vector<int64_t>&)>& micro_batch,
                 const std::function<void()>& before_last);

  /// Leaves whose gradients are final before the backward of a part begins: the head's, which no autograd sees.
  std::vector<at::Tensor> final_early() const;

  std::shared_ptr<Transformer> owner_;
  Transformer& model_;
  Optimizer optimizer_;
  std::shared_ptr<RankGroup> group_;
  bool fused_ = true;  // of the call under way
};

}  // namespace fg
