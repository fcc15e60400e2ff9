#include "torch/model/transformer.h"

#include <map>

#include "torch/error.h"

namespace fg {

namespace {

/// Below this many positions bfloat16 attention is computed in float32, as decoding does: the products are so small
/// that libtorch's bfloat16 path spends its time preparing them (measured 2 to 5 times slower up to 512).
constexpr int64_t kLongAttention = 1024;

/// x + y W^T (+ b) in one product when nothing stands between them.
at::Tensor add_linear(const at::Tensor& residual, const Linear& l, const at::Tensor& x) {
  if (l.bias.defined()) return residual + apply_linear(l, x);
  const at::Tensor w = ops::join(l.weight_parts, l.weight);
  return at::addmm(residual, x, l.transposed ? w : w.t());
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

at::Tensor apply_linear(const Linear& l, const at::Tensor& x) {
  const at::Tensor w = ops::join(l.weight_parts, l.weight);
  if (!l.bias.defined()) return at::mm(x, l.transposed ? w : w.t());
  return at::addmm(ops::join(l.bias_parts, l.bias), x, l.transposed ? w : w.t());
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

std::shared_ptr<Transformer> Transformer::clone() const {
  static const std::atomic<bool> never{false};
  return std::shared_ptr<Transformer>(
      new Transformer(config_, load_weights(config_, ModelSource(weights_.named), dtype(), never)));
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
}

void Transformer::save(const std::string& file) const { write_safetensors(file, weights_.named); }

at::Tensor Transformer::hidden(const at::Tensor& ids) {
  TORCH_CHECK(ids.dim() == 2 && ids.scalar_type() == at::kLong, "ids must be (B, T) int64");
  const ops::RowMap rows{ids.size(0), ids.size(1), {}, {}};
  return run(ids.reshape(-1), rows, {}, {}).view({ids.size(0), ids.size(1), config_.hidden});
}

at::Tensor Transformer::hidden_ragged(const at::Tensor& ids, const std::vector<int64_t>& offsets, const KvSink& sink,
                                      const at::Tensor& wanted) {
  TORCH_CHECK(ids.dim() == 1 && offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == ids.size(0),
              "offsets must span ids");
  const int64_t sequences = static_cast<int64_t>(offsets.size()) - 1;
  int64_t longest = 0;
  for (int64_t b = 0; b < sequences; ++b) longest = std::max(longest, offsets[b + 1] - offsets[b]);
  ops::RowMap rows{sequences, longest, {}, {}};
  if (sequences * longest != ids.size(0)) {
    rows.positions = at::empty({ids.size(0)}, at::kLong);
    rows.slots = at::empty({ids.size(0)}, at::kLong);
    int64_t *position = rows.positions.mutable_data_ptr<int64_t>(), *slot = rows.slots.mutable_data_ptr<int64_t>();
    for (int64_t b = 0; b < sequences; ++b)
      for (int64_t t = 0; t < offsets[b + 1] - offsets[b]; ++t) *position++ = t, *slot++ = b * longest + t;
  }
  return run(ids, rows, sink, wanted);
}

at::Tensor Transformer::embed(const at::Tensor& ids, const ops::RowMap& rows) const {
  at::Tensor x = at::embedding(weights_.embedding, ids);
  // Gemma rounds the scale to the weights' dtype before it multiplies.
  if (config_.embed_scale != 1) x = x * at::scalar_tensor(config_.embed_scale, x.options());
  if (!config_.learned_positions) return x;
  const at::Tensor positions =
      rows.positions.defined() ? rows.positions : at::arange(rows.length, at::kLong).repeat({rows.sequences});
  return x + at::embedding(weights_.positions, positions);
}

at::Tensor Transformer::window_mask(int64_t length, int64_t window) {
  if (!mask_.defined() || mask_.size(0) != length || mask_window_ != window) {
    const at::Tensor t = at::arange(length, at::kLong), age = t.unsqueeze(1) - t;
    mask_ = (age >= 0).logical_and(age < window);
    mask_window_ = window;
  }
  return mask_;
}

at::Tensor Transformer::attention(const at::Tensor& qkv, int64_t layer, const ops::RowMap& rows, const KvSink& sink) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  auto [q, k, v] = ops::split_heads(qkv, w.q_norm, w.k_norm, rows, head_params(), rope(layer, rows.length));
  if (sink) sink(layer, k, v);
  if (rows.length < kLongAttention && qkv.scalar_type() != at::kFloat)
    q = q.to(at::kFloat), k = k.to(at::kFloat), v = v.to(at::kFloat);
  const int64_t window = config_.layer_window[static_cast<size_t>(layer)];
  std::optional<at::Tensor> mask;
  if (window > 0 && window < rows.length) mask = window_mask(rows.length, window);
  const at::Tensor out =
      at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, 0.0,
                                       !mask.has_value(), config_.attention_scale, config_.heads != config_.kv_heads);
  const at::Tensor flat =
      out.transpose(1, 2).reshape({rows.sequences * rows.length, config_.heads * config_.head_dim}).to(dtype());
  return rows.slots.defined() ? flat.index_select(0, rows.slots) : flat;
}

at::Tensor Transformer::mlp(const at::Tensor& x, const LayerWeights& layer) const {
  return ops::activate(apply_linear(layer.up, x), config_.activation, config_.gated_mlp);
}

at::Tensor Transformer::run(const at::Tensor& ids, const ops::RowMap& rows, const KvSink& sink,
                            const at::Tensor& wanted) {
  if (rows.length > config_.max_positions)
    throw CodedError("ERR_CONTEXT_LENGTH", "A sequence of " + std::to_string(rows.length) +
                                               " tokens does not fit the model's context of " +
                                               std::to_string(config_.max_positions));
  return layers(
      ids, rows, [&](int64_t layer, const at::Tensor& qkv) { return attention(qkv, layer, rows, sink); }, wanted);
}

at::Tensor Transformer::layers(const at::Tensor& ids, const ops::RowMap& rows, const Attend& attend,
                               const at::Tensor& wanted) {
  const ops::NormParams np = norm_params();
  auto norm = [&](const at::Tensor& t, const NormWeights& n) { return ops::norm(t, n.weight, n.bias, np); };
  at::Tensor x = embed(ids, rows);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(i)];
    at::Tensor attended = attend(i, apply_linear(w.qkv, norm(x, w.attention_norm)));
    if (wanted.defined() && i + 1 == config_.layers)
      attended = attended.index_select(0, wanted), x = x.index_select(0, wanted);
    x = config_.post_norms ? x + norm(apply_linear(w.out, attended), w.post_attention_norm)
                           : add_linear(x, w.out, attended);
    const at::Tensor inner = mlp(norm(x, w.mlp_norm), w);
    x = config_.post_norms ? x + norm(apply_linear(w.down, inner), w.post_mlp_norm) : add_linear(x, w.down, inner);
  }
  return norm(x, weights_.final_norm);
}

at::Tensor Transformer::logits(const at::Tensor& rows) const {
  const at::Tensor z = at::mm(rows, weights_.head.t());
  return config_.logit_softcap > 0 ? at::tanh(z / config_.logit_softcap) * config_.logit_softcap : z;
}

}  // namespace fg
