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
  /// Of every leaf, adapters included.
  void set_trainable(bool trainable);

  // ---- what training changes (torch/model/adapters.cc)
  /// Restricts training to these parameters; empty: all. Throws CodedError ERR_INVALID_ARG for a name that is not
  /// there. `recompute`: gradient checkpointing; in training each layer keeps its input only and is computed again in
  /// backward.
  void choose_trained(const std::vector<std::string>& names, bool recompute);
  bool recomputes_training() const { return recomputes_training_; }
  /// The adapters where there are any, else the chosen parameters.
  NamedTensors trained() const;

  /// Gives every product named in `modules` an adapter of rank `rank`: A uniform in +-1/sqrt(in) (peft's
  /// initialisation, from `seed`), B zero. Throws CodedError ERR_INVALID_ARG: an unknown module, or adapters are there
  /// already.
  void add_adapters(const std::vector<std::string>& modules, int64_t rank, double scale, uint64_t seed);
  /// The adapters' leaves, named as peft names them ("base_model.model.<module>.lora_A.weight").
  NamedTensors adapters() const;
  bool has_adapters() const;
  /// The modules that can have an adapter, in checkpoint order, named as peft sees them.
  std::vector<std::string> linear_modules() const;
  /// Reads adapter_model.safetensors; the modules are those that it names. Throws CodedError ERR_MODEL, ERR_IO.
  void load_adapters(const std::string& file, int64_t rank, double scale);
  void save_adapters(const std::string& file) const;
  /// Adds the adapters to the weights (rounded once) and removes them.
  void merge_adapters();
  /// Whether adapters take part in what is computed from here on.
  void use_adapters(bool on) { adapters_on_ = on; }
  bool adapters_used() const { return adapters_on_; }

  /// Whether layer `layer` has something that is trained.
  bool trains(int64_t layer) const;
  /// Replaces `file` atomically with the weights (model.safetensors of a Hugging Face folder).
  void save(const std::string& file) const;

  /// The table of layer `layer`, for `positions` positions, or null when the layer has no rotation.
  const RopeTable* rope(int64_t layer, int64_t positions);
  ops::NormParams norm_params() const { return {config_.norm_eps, config_.norm_offset, config_.layer_norm}; }
  ops::HeadParams head_params() const {
    return {config_.heads, config_.kv_heads, config_.head_dim, config_.norm_eps, config_.norm_offset};
  }

 private:
  friend class RecomputeScope;
  Transformer(ModelConfig config, Weights weights);
  void copy_adapters(const Transformer& from);
  at::Tensor embed(const at::Tensor& ids, const ops::RowMap& rows) const;
  at::Tensor attention(const at::Tensor& qkv, int64_t layer, const ops::RowMap& rows, const KvSink& sink);
  at::Tensor mlp(const at::Tensor& x, const LayerWeights& layer) const;
  std::shared_ptr<Transformer> copy_as(const ModelConfig& config) const;
  at::Tensor layer(int64_t i, at::Tensor x, const Attend& attend, const at::Tensor& wanted) const;
  /// x W^T + b (+ residual) and what the adapter adds.
  at::Tensor linear(const Linear& l, const at::Tensor& x, const at::Tensor& residual = {}) const;

  ModelConfig config_;
  Weights weights_;
  RopeTable rope_, rope_local_;
  std::vector<std::string> chosen_;  // for training; empty: all
  bool adapters_on_ = true, recomputes_training_ = false, recompute_ = false;
};

/// The rows of whole sequences end to end: sequence s has rows [offsets[s], offsets[s + 1]).
ops::RowMap whole_sequences(const std::vector<int64_t>& offsets);

/// Gradient checkpointing, where it was chosen, for a scope. What records gradients in it must be differentiated by
/// torch::autograd::backward (ops::recomputed).
class RecomputeScope {
 public:
  explicit RecomputeScope(Transformer& model) : model_(model) { model_.recompute_ = model.recomputes_training_; }
  ~RecomputeScope() { model_.recompute_ = false; }
  RecomputeScope(const RecomputeScope&) = delete;
  RecomputeScope& operator=(const RecomputeScope&) = delete;

 private:
  Transformer& model_;
};

/// Adapters off or on for a scope. The model belongs to one thread, so that no other call sees it.
class AdapterScope {
 public:
  AdapterScope(Transformer& model, bool on) : model_(model), before_(model.adapters_used()) { model.use_adapters(on); }
  ~AdapterScope() { model_.use_adapters(before_); }
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  Transformer& model_;
  const bool before_;
};

}  // namespace fg
