#include "torch/model/transformer.h"

#include <map>

#include "torch/error.h"
#include "torch/model/recompute.h"

namespace fg {

namespace {

/// x W^T + b (+ residual), or x W for transposed weights; in one product when nothing stands between them.
at::Tensor base_linear(const Linear& l, const at::Tensor& x, const at::Tensor& residual) {
  const at::Tensor w = ops::join(l.weight_parts, l.weight);
  if (l.bias.defined()) {
    const at::Tensor y = at::addmm(ops::join(l.bias_parts, l.bias), x, l.transposed ? w : w.t());
    return residual.defined() ? residual + y : y;
  }
  if (!l.transposed) return ops::linear(x, w, residual);
  return residual.defined() ? at::addmm(residual, x, w) : at::mm(x, w);
}

/// Another model's weights as a source to copy from.
class ModelSource : public TensorSource {
 public:
  explicit ModelSource(const NamedTensors& named) {
    for (const auto& [name, tensor] : named) tensors_.emplace(name, tensor);
  }
  bool has(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, tensor] : tensors_) all.push_back(name);
    return all;
  }
  void copy_to(const std::string& name, at::Tensor into) const override { into.copy_(tensors_.at(name)); }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

}  // namespace

at::Tensor Transformer::linear(const Linear& l, const at::Tensor& x, const at::Tensor& residual) const {
  const at::Tensor y = base_linear(l, x, residual);
  return adapters_on_ && !l.low_rank.parts.empty() ? ops::add_low_rank(y, x, l.low_rank) : y;
}

Transformer::Transformer(ModelConfig config, Weights weights)
    : config_(std::move(config)), weights_(std::move(weights)) {
  if (config_.rope.type != RopeConfig::Type::none) rope_ = RopeTable(config_.rope, config_.head_dim);
  if (config_.rope_local.type != RopeConfig::Type::none) rope_local_ = RopeTable(config_.rope_local, config_.head_dim);
}

std::shared_ptr<Transformer> Transformer::load(const ModelConfig& config, const std::vector<std::string>& files,
                                               at::ScalarType dtype, const std::atomic<bool>& abort) {
  const Checkpoint checkpoint(files);
  return std::shared_ptr<Transformer>(new Transformer(config, load_weights(config, checkpoint, dtype, abort)));
}

std::shared_ptr<Transformer> Transformer::copy_as(const ModelConfig& config) const {
  static const std::atomic<bool> never{false};
  return std::shared_ptr<Transformer>(
      new Transformer(config, load_weights(config, ModelSource(weights_.named), dtype(), never)));
}

std::shared_ptr<Transformer> Transformer::clone() const {
  auto copy = copy_as(config_);
  copy->copy_adapters(*this);
  return copy;
}

std::shared_ptr<Transformer> Transformer::clone_with_scalar_head(const ScoreInit& init) const {
  ModelConfig config = config_;
  config.scalar_head = true;
  config.score_init = init;
  auto copy = copy_as(config);
  copy->copy_adapters(*this);
  copy->merge_adapters();  // it is another model, and trained as a whole
  return copy;
}

const at::Tensor& Transformer::head_weight() const {
  if (config_.scalar_head) throw model_error("The model has a scalar head: it has values, but no logits");
  return weights_.head;
}

const at::Tensor& Transformer::score_weight() const {
  if (!config_.scalar_head) throw model_error("The model is a language model: it has no scalar head");
  return weights_.score;
}

const RopeTable* Transformer::rope(int64_t layer, int64_t positions) {
  const int32_t kind = config_.layer_rope[static_cast<size_t>(layer)];
  if (kind == 0) return nullptr;
  RopeTable& table = kind == 2 ? rope_local_ : rope_;
  table.reserve(positions);
  return &table;
}

int64_t Transformer::parameter_count() const {
  int64_t n = 0;
  for (const auto& [name, tensor] : weights_.named) n += tensor.numel();
  return n;
}
int64_t Transformer::parameter_bytes() const {
  return parameter_count() * static_cast<int64_t>(c10::elementSize(dtype()));
}

void Transformer::set_trainable(bool trainable) {
  for (auto& [name, tensor] : weights_.named) tensor.set_requires_grad(trainable);
  for (auto& [name, tensor] : adapters()) tensor.set_requires_grad(trainable);
}

void Transformer::save(const std::string& file) const { write_safetensors(file, weights_.named); }

at::Tensor Transformer::hidden(const at::Tensor& ids, const ops::RowMap& rows, const KvSink& sink,
                               const at::Tensor& wanted) {
  if (rows.longest > config_.max_positions)
    throw CodedError("ERR_CONTEXT_LENGTH", "A sequence of " + std::to_string(rows.longest) +
                                               " tokens does not fit the model's context of " +
                                               std::to_string(config_.max_positions));
  // By value: with a RecomputeScope it is called again during backward.
  return layers(
      ids, rows, [this, rows, sink](int64_t layer, const at::Tensor& qkv) { return attention(qkv, layer, rows, sink); },
      wanted);
}

ops::RowMap whole_sequences(const std::vector<int64_t>& offsets) {
  std::vector<int64_t> positions;
  std::vector<Segment> segments;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    segments.push_back({offsets[s], offsets[s + 1], -1});
    for (int64_t t = 0; t < segments.back().length(); ++t) positions.push_back(t);
  }
  return ops::row_map(positions, segments);
}

at::Tensor Transformer::embed(const at::Tensor& ids, const ops::RowMap& rows) const {
  at::Tensor x = at::embedding(weights_.embedding, ids);
  // Gemma rounds the scale to the weights' dtype before it multiplies.
  if (config_.embed_scale != 1) x = x * at::scalar_tensor(config_.embed_scale, x.options());
  if (!config_.learned_positions) return x;
  return x + at::embedding(weights_.positions, rows.positions);
}

at::Tensor Transformer::attention(const at::Tensor& qkv, int64_t layer, const ops::RowMap& rows, const KvSink& sink) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const auto [q, k, v] = ops::split_heads(qkv, w.q_norm, w.k_norm, rows, head_params(), rope(layer, rows.longest));
  if (sink) sink(layer, k, v);
  return ops::attention(q, k, v, rows, head_params(),
                        {config_.layer_window[static_cast<size_t>(layer)], config_.attention_scale});
}

at::Tensor Transformer::mlp(const at::Tensor& x, const LayerWeights& layer) const {
  return ops::activate(linear(layer.up, x), config_.activation, config_.gated_mlp);
}

at::Tensor Transformer::layer(int64_t i, at::Tensor x, const Attend& attend, const at::Tensor& wanted) const {
  const ops::NormParams np = norm_params();
  const auto norm = [&](const at::Tensor& t, const NormWeights& n) { return ops::norm(t, n.weight, n.bias, np); };
  const LayerWeights& w = weights_.layers[static_cast<size_t>(i)];
  at::Tensor attended = attend(i, linear(w.qkv, norm(x, w.attention_norm)));
  if (wanted.defined() && i + 1 == config_.layers)
    attended = attended.index_select(0, wanted), x = x.index_select(0, wanted);
  x = config_.post_norms ? x + norm(linear(w.out, attended), w.post_attention_norm) : linear(w.out, attended, x);
  const at::Tensor inner = mlp(norm(x, w.mlp_norm), w);
  return config_.post_norms ? x + norm(linear(w.down, inner), w.post_mlp_norm) : linear(w.down, inner, x);
}

at::Tensor Transformer::layers(const at::Tensor& ids, const ops::RowMap& rows, const Attend& attend,
                               const at::Tensor& wanted) {
  at::Tensor x = embed(ids, rows);
  for (int64_t i = 0; i < config_.layers; ++i) {
    if (recompute_ && at::GradMode::is_enabled() && (x.requires_grad() || trains(i)))
      x = ops::recomputed(x, [this, i, attend, wanted](const at::Tensor& in) { return layer(i, in, attend, wanted); });
    else
      x = layer(i, x, attend, wanted);
  }
  return ops::norm(x, weights_.final_norm.weight, weights_.final_norm.bias, norm_params());
}

at::Tensor Transformer::logits(const at::Tensor& rows) const {
  const at::Tensor z = at::mm(rows, head_weight().t());
  return config_.logit_softcap > 0 ? at::tanh(z / config_.logit_softcap) * config_.logit_softcap : z;
}

}  // namespace fg
