#pragma once
// The parameters of a transformer: leaves with their Hugging Face names, some of them slices of one joint tensor.
#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "torch/checkpoint.h"
#include "torch/model/config.h"
#include "torch/model/low_rank.h"

namespace fg {

/// One matrix product. `weight_parts` and `bias_parts` are the leaves, consecutive slices of `weight` and `bias` (q, k,
/// v; gate, up).
struct Linear {
  at::Tensor weight, bias;  // (out, in), or (in, out) when transposed (GPT-2's Conv1D); bias may be undefined
  std::vector<at::Tensor> weight_parts, bias_parts;
  bool transposed = false;
  std::vector<std::string> modules;  // of each part, as named in the checkpoint: "model.layers.0.self_attn.q_proj"
  LowRank low_rank;                  // without parts: no adapter
};

struct NormWeights {
  at::Tensor weight, bias;
};

struct LayerWeights {
  NormWeights attention_norm, mlp_norm, post_attention_norm, post_mlp_norm;
  at::Tensor q_norm, k_norm;
  Linear qkv, out, up, down;  // `up` holds gate and up when the MLP is gated
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct Weights {
  at::Tensor embedding, positions, head;  // head: its own tensor, or the embedding when tied
  at::Tensor score;                       // (1, hidden) with a scalar head; there is no `head` then
  NormWeights final_norm;
  std::vector<LayerWeights> layers;
  NamedTensors named;  // every leaf once, in checkpoint order
  std::string prefix;  // "transformer." or "" for GPT-2, as found on disk
};

/// Calls fn(layer, product) for the four products of every layer, in checkpoint order.
void each_linear(Weights& weights, const std::function<void(int64_t layer, Linear&)>& fn);

/// Allocates all parameters and fills them. Every missing, unexpected or mis-shaped tensor is an error ERR_MODEL that
/// names it. `abort` is polled between tensors; when set, throws CodedError ERR_ABORTED.
Weights load_weights(const ModelConfig& config, const TensorSource& source, at::ScalarType dtype,
                     const std::atomic<bool>& abort);

}  // namespace fg
