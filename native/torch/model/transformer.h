#pragma once
// A decoder-only transformer. Architectures differ only in ModelConfig.
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "torch/model/ops.h"
#include "torch/model/weights.h"

namespace fg {

/// Called once per layer with that layer's rotated keys and values, (rows, kv_heads * head_dim) contiguous.
using KvSink = std::function<void(int64_t layer, const at::Tensor& k, const at::Tensor& v)>;

/// How a layer attends: joint q/k/v rows (rows, (heads + 2 kv_heads) dim) -> (rows, heads * dim).
using Attend = std::function<at::Tensor(int64_t layer, const at::Tensor& qkv)>;

class Transformer {
 public:
  /// Loads weights as `dtype` (float32 or bfloat16), not trainable. Throws CodedError (ERR_MODEL, ERR_IO, ERR_ABORTED).
  static std::shared_ptr<Transformer> load(const ModelConfig& config, const std::vector<std::string>& files,
                                           at::ScalarType dtype, const std::atomic<bool>& abort);
  /// A second model with copies of the weights, not trainable (a frozen reference).
  std::shared_ptr<Transformer> clone() const;
  /// The same with a scalar head: the model's own, or a new one in place of the language model's head.
  std::shared_ptr<Transformer> clone_with_scalar_head(const ScoreInit& init) const;

  /// ids (N) int64 of packed sequences, described by `rows`. Returns (N, hidden) after the final norm, or with `wanted`
  /// (M) int64 only those rows; what follows the last attention is then computed for them alone. Differentiable when
  /// grad mode is on and the parameters are trainable. Every id must be in [0, vocab): the caller checks.
  at::Tensor hidden(const at::Tensor& ids, const ops::RowMap& rows, const KvSink& sink = {},
                    const at::Tensor& wanted = {});

  /// All layers and the final norm, attention left to the caller (decoding). (rows)
  /// -> (rows, hidden), or of the `wanted` rows only.
  at::Tensor layers(const at::Tensor& ids, const ops::RowMap& rows, const Attend& attend,
                    const at::Tensor& wanted = {});

  /// rows (N, hidden) -> logits (N, vocab) in the model's dtype, soft cap included. Differentiable.
  at::Tensor logits(const at::Tensor& rows) const;
  /// (vocab, hidden); the embedding itself when tied. Throws CodedError (ERR_MODEL) with a scalar head.
  const at::Tensor& head_weight() const;
  /// (1, hidden). Throws CodedError (ERR_MODEL) without a scalar head.
  const at::Tensor& score_weight() const;
  /// 0: none; else logits = cap * tanh(logits / cap).
  double logit_softcap() const { return config_.logit_softcap; }

  const ModelConfig& config() const { return config_; }
  const Weights& weights() const { return weights_; }
  int64_t vocab() const { return config_.vocab; }
  int64_t max_positions() const { return config_.max_positions; }
  at::ScalarType dtype() const { return weights_.embedding.scalar_type(); }
  /// Every leaf once, with its name in the checkpoint. Change them in place only (joint products read the same memory).
  const NamedTensors& parameters() const { return weights_.named; }
  int64_t parameter_count() const;
  int64_t parameter_bytes() const;
  void set_trainable(bool trainable);
  /// Replaces `file` atomically with the weights (model.safetensors of a Hugging Face folder).
  void save(const std::string& file) const;

  /// The table of layer `layer`, for `positions` positions, or null when the layer has no rotation.
  const RopeTable* rope(int64_t layer, int64_t positions);
  ops::NormParams norm_params() const { return {config_.norm_eps, config_.norm_offset, config_.layer_norm}; }
  ops::HeadParams head_params() const {
    return {config_.heads, config_.kv_heads, config_.head_dim, config_.norm_eps, config_.norm_offset};
  }

 private:
  Transformer(ModelConfig config, Weights weights);
  at::Tensor embed(const at::Tensor& ids, const ops::RowMap& rows) const;
  at::Tensor attention(const at::Tensor& qkv, int64_t layer, const ops::RowMap& rows, const KvSink& sink);
  at::Tensor mlp(const at::Tensor& x, const LayerWeights& layer) const;
  std::shared_ptr<Transformer> copy_as(const ModelConfig& config) const;

  ModelConfig config_;
  Weights weights_;
  RopeTable rope_, rope_local_;
};

/// The rows of whole sequences end to end: sequence s has rows [offsets[s], offsets[s + 1]).
ops::RowMap whole_sequences(const std::vector<int64_t>& offsets);

/// x W^T + b, or x W + b for transposed weights.
at::Tensor apply_linear(const Linear& l, const at::Tensor& x);

}  // namespace fg
