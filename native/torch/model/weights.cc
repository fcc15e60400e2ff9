#include "torch/model/weights.h"

#include <algorithm>
#include <unordered_set>

#include "math/random.h"
#include "torch/error.h"

namespace fg {

namespace {

class Builder {
 public:
  Builder(const ModelConfig& config, const TensorSource& source, at::ScalarType dtype, const std::atomic<bool>& abort)
      : c_(config), source_(source), dtype_(dtype), abort_(abort) {}

  Weights build() {
    c_.naming == Naming::gpt2 ? gpt2() : llama();
    check_unexpected();
    return std::move(w_);
  }

 private:
  at::Tensor leaf(const std::string& name, at::Tensor storage) {
    if (abort_.load()) throw CodedError("ERR_ABORTED", "loading was aborted");
    source_.copy_to(name, storage);
    used_.insert(name);
    // Beside a head that has no prefix, transformers expects the bare GPT2Model's names with theirs.
    const bool bare = c_.scalar_head && c_.naming == Naming::gpt2 && w_.prefix.empty() && name != kScore;
    w_.named.emplace_back(bare ? "transformer." + name : name, storage);
    return storage;
  }
  at::Tensor allocate(std::vector<int64_t> shape) { return at::empty(shape, at::TensorOptions().dtype(dtype_)); }
  at::Tensor parameter(const std::string& name, std::vector<int64_t> shape) {
    return leaf(name, allocate(std::move(shape)));
  }

  NormWeights norm(const std::string& name) {
    NormWeights n{parameter(name + ".weight", {c_.hidden}), {}};
    if (c_.layer_norm) n.bias = parameter(name + ".bias", {c_.hidden});
    return n;
  }

  /// A product of one or several named parts that share storage. The slices are made below autograd: each becomes a
  /// leaf of its own.
  Linear linear(const std::vector<std::pair<std::string, int64_t>>& parts, int64_t in, bool bias) {
    int64_t out = 0;
    for (const auto& part : parts) out += part.second;
    Linear l;
    l.weight = allocate({out, in});
    if (bias) l.bias = allocate({out});
    int64_t at = 0;
    for (const auto& [name, size] : parts) {
      l.modules.push_back(name);
      l.weight_parts.push_back(leaf(name + ".weight", slice(l.weight, at, size)));
      if (bias) l.bias_parts.push_back(leaf(name + ".bias", slice(l.bias, at, size)));
      at += size;
    }
    return l;
  }
  Linear conv1d(const std::string& name, int64_t in, int64_t out) {
    Linear l{parameter(name + ".weight", {in, out}), parameter(name + ".bias", {out}), {}, {}, true, {name}, {}};
    l.weight_parts = {l.weight};
    l.bias_parts = {l.bias};
    return l;
  }
  static at::Tensor slice(const at::Tensor& whole, int64_t begin, int64_t size) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return whole.narrow(0, begin, size);
  }

  void llama() {
    w_.embedding = parameter("model.embed_tokens.weight", {c_.vocab, c_.hidden});
    for (int64_t i = 0; i < c_.layers; ++i) w_.layers.push_back(llama_layer("model.layers." + std::to_string(i) + "."));
    w_.final_norm = norm("model.norm");
    head("lm_head.weight");
  }

  LayerWeights llama_layer(const std::string& p) {
    const int64_t q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
    LayerWeights l;
    l.attention_norm = norm(p + "input_layernorm");
    l.qkv = linear({{p + "self_attn.q_proj", q}, {p + "self_attn.k_proj", kv}, {p + "self_attn.v_proj", kv}}, c_.hidden,
                   c_.qkv_bias);
    if (c_.qk_norm) {
      l.q_norm = parameter(p + "self_attn.q_norm.weight", {c_.head_dim});
      l.k_norm = parameter(p + "self_attn.k_norm.weight", {c_.head_dim});
    }
    l.out = linear({{p + "self_attn.o_proj", c_.hidden}}, q, c_.out_bias);
    if (c_.post_norms) {
      l.post_attention_norm = norm(p + "post_attention_layernorm");
      l.mlp_norm = norm(p + "pre_feedforward_layernorm");
      l.post_mlp_norm = norm(p + "post_feedforward_layernorm");
    } else {
      l.mlp_norm = norm(p + "post_attention_layernorm");
    }
    l.up =
        linear({{p + "mlp.gate_proj", c_.intermediate}, {p + "mlp.up_proj", c_.intermediate}}, c_.hidden, c_.mlp_bias);
    l.down = linear({{p + "mlp.down_proj", c_.hidden}}, c_.intermediate, c_.mlp_bias);
    return l;
  }

  void gpt2() {
    w_.prefix = source_.has("wte.weight") ? "" : "transformer.";
    const std::string& p = w_.prefix;
    w_.embedding = parameter(p + "wte.weight", {c_.vocab, c_.hidden});
    w_.positions = parameter(p + "wpe.weight", {c_.max_positions, c_.hidden});
    for (int64_t i = 0; i < c_.layers; ++i) {
      const std::string h = p + "h." + std::to_string(i) + ".";
      LayerWeights l;
      l.attention_norm = norm(h + "ln_1");
      l.qkv = conv1d(h + "attn.c_attn", c_.hidden, 3 * c_.hidden);
      l.out = conv1d(h + "attn.c_proj", c_.hidden, c_.hidden);
      l.mlp_norm = norm(h + "ln_2");
      l.up = conv1d(h + "mlp.c_fc", c_.hidden, c_.intermediate);
      l.down = conv1d(h + "mlp.c_proj", c_.intermediate, c_.hidden);
      w_.layers.push_back(std::move(l));
    }
    w_.final_norm = norm(p + "ln_f");
    head("lm_head.weight");
  }

  /// score.weight, or a new one; the language model's head is not read.
  void score(const std::string& language_head) {
    used_.insert(language_head);
    if (source_.has(kScore) || !c_.score_init) {
      w_.score = parameter(kScore, {1, c_.hidden});
      return;
    }
    at::Tensor fresh = at::empty({1, c_.hidden});
    for (int64_t i = 0; i < c_.hidden; ++i)
      fresh.mutable_data_ptr<float>()[i] =
          static_cast<float>(c_.score_init->std * seeded_normal(c_.score_init->seed, static_cast<uint32_t>(i)));
    w_.score = allocate({1, c_.hidden}).copy_(fresh);
    w_.named.emplace_back(kScore, w_.score);
  }

  void head(const std::string& name) {
    if (c_.scalar_head) return score(name);
    if (!c_.tied_head) {
      w_.head = parameter(name, {c_.vocab, c_.hidden});
      return;
    }
    w_.head = w_.embedding;
    if (!source_.has(name)) return;
    // Some tools write the tied head a second time. A different one would be lost silently.
    const at::Tensor copy = allocate({c_.vocab, c_.hidden});
    source_.copy_to(name, copy);
    if (!at::equal(copy, w_.embedding))
      throw model_error("config.json says tie_word_embeddings, but tensor '" + name + "' differs from the embedding");
    used_.insert(name);
  }

  /// Buffers that old checkpoints carry and that the architecture recomputes.
  static bool harmless(const std::string& name) {
    for (const char* end : {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"})
      if (name.ends_with(end)) return true;
    return false;
  }

  void check_unexpected() {
    std::vector<std::string> unknown;
    for (const std::string& name : source_.names())
      if (!used_.contains(name) && !harmless(name)) unknown.push_back(name);
    if (unknown.empty()) return;
    throw model_error("The checkpoint has " + std::to_string(unknown.size()) +
                      " tensor(s) that this architecture does not use, first '" + unknown.front() +
                      "': config.json does not describe these weights");
  }

  static constexpr const char* kScore = "score.weight";
  const ModelConfig& c_;
  const TensorSource& source_;
  const at::ScalarType dtype_;
  const std::atomic<bool>& abort_;
  Weights w_;
  std::unordered_set<std::string> used_;
};

}  // namespace

void each_linear(Weights& weights, const std::function<void(int64_t layer, Linear&)>& fn) {
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    LayerWeights& w = weights.layers[i];
    for (Linear* l : {&w.qkv, &w.out, &w.up, &w.down}) fn(static_cast<int64_t>(i), *l);
  }
}

Weights load_weights(const ModelConfig& config, const TensorSource& source, at::ScalarType dtype,
                     const std::atomic<bool>& abort) {
  at::NoGradGuard no_grad;
  return Builder(config, source, dtype, abort).build();
}

}  // namespace fg
