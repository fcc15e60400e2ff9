#pragma once
// What distinguishes the supported architectures, as data. lib/engine/config.ts derives it from config.json and refuses
// what is not here.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/model.h"

namespace fg {

struct RopeConfig {
  enum class Type { none, standard, linear, llama3, yarn };
  Type type = Type::none;
  double theta = 10000, factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4, original_max_positions = 0;  // llama3; yarn uses the last one too
  double beta_fast = 32, beta_slow = 1, attention_factor = 1;  // yarn; attention_factor is already resolved
  bool truncate = true;
};

/// How tensors are named and oriented on disk.
enum class Naming { llama, gpt2 };

/// How a scalar head begins where there is none yet: normal with this deviation, by a seed.
struct ScoreInit {
  double std = 0;
  uint64_t seed = 0;
};

struct ModelConfig {
  Naming naming = Naming::llama;
  int64_t vocab = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, max_positions = 0;
  double norm_eps = 1e-6;
  bool layer_norm = false;  // LayerNorm with bias; else RMSNorm
  double norm_offset = 0;   // 1: RMSNorm weights are stored minus one (Gemma)
  Activation activation = Activation::silu;
  bool gated_mlp = true, qkv_bias = false, out_bias = false, mlp_bias = false, qk_norm = false;
  bool post_norms = false;  // a norm after attention and after the MLP, before the residual sum (Gemma 3)
  bool learned_positions = false, tied_head = false;
  double embed_scale = 1, attention_scale = 1, logit_softcap = 0;
  RopeConfig rope, rope_local;
  std::vector<int32_t> layer_rope;    // per layer: 0 none, 1 rope, 2 rope_local
  std::vector<int32_t> layer_window;  // per layer: attends to that many last positions, itself included; 0: to all
  /// Instead of the language model's head one row of weights without bias, score.weight (a reward model, a critic).
  bool scalar_head = false;
  std::optional<ScoreInit> score_init;  // unset: the checkpoint must have it
};

}  // namespace fg
