#include "torch/decode_layers.h"

#include <algorithm>

#include "torch/dtype.h"
#include "torch/team.h"

namespace fg {

namespace {

DecodeLinear plain(const at::Tensor& weight, const at::Tensor& bias) {
  DecodeLinear l;
  l.weight = weight;
  l.bias = bias;
  l.out = weight.size(0);
  l.in = weight.size(1);
  return l;
}

DecodeLinear pack(const at::Tensor& weight, const at::Tensor& bias) {
  DecodeLinear l = plain(weight, bias);
  constexpr int64_t kAlign = 16;  // floats
  l.storage.resize(static_cast<size_t>(packed_floats(l.out, l.in) + kAlign));
  auto* start = l.storage.data();
  while (reinterpret_cast<uintptr_t>(start) % 64) ++start;
  l.packed = start;
  pack_weight({weight.const_data_ptr(), l.out, l.in, weight.stride(0), weight.stride(1), dtype_of(weight), start});
  return l;
}

/// x[i] = fn(x[i], i) for the first n elements.
template <class T, class Fn>
void each(const Context& context, at::Tensor& x, int64_t n, Fn fn) {
  T* at = static_cast<T*>(x.mutable_data_ptr());
  parallel_for(context, n, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) store(at + i, fn(load(at + i), i));
  });
}

}  // namespace

DecodeAttentionArgs decode_attention_args(const Transformer& model, int64_t layer,
                                          const DecodeSequence* const* sequences, int64_t rows) {
  const ModelConfig& c = model.config();
  DecodeAttentionArgs a{};
  a.sequences = sequences;
  a.rows = rows;
  a.layer = layer;
  a.heads = c.heads;
  a.kv_heads = c.kv_heads;
  a.dim = c.head_dim;
  a.window = c.layer_window[static_cast<size_t>(layer)];
  a.scale = static_cast<float>(c.attention_scale);
  a.dtype = dtype_of(model.weights().embedding);
  return a;
}

DecodeLayers::DecodeLayers(Transformer& model, bool packed) : model_(model), context_(team_context()) {
  const auto make = [&](const at::Tensor& weight, const at::Tensor& bias) {
    return packed ? pack(weight, bias) : plain(weight, bias);
  };
  // An adapter is merged into the packed weights, in float32; or into a copy of the weights that lives as long as this.
  const auto product = [&](const Linear& l) {
    const bool adapted = model.adapters_used() && !l.low_rank.parts.empty();
    const at::Tensor w =
        adapted ? ops::merged_weight(l.weight, l.transposed, l.low_rank, packed ? at::kFloat : model.dtype())
                : l.weight;
    return make(l.transposed ? w.t() : w, l.bias);
  };
  for (const LayerWeights& w : model.weights().layers)
    layers_.push_back({product(w.qkv), product(w.out), product(w.up), product(w.down)});
  head_ = make(model.head_weight(), {});
}

DecodeLayers::Workspace::Workspace(const DecodeLayers& layers) : ids(kMaxRows), positions(kMaxRows) {
  const ModelConfig& c = layers.model_.config();
  const auto options = at::TensorOptions().dtype(layers.model_.dtype());
  auto make = [&](int64_t width) { return at::empty({kMaxRows, width}, options); };
  const int64_t up = layers.layers_.empty() ? 0 : layers.layers_[0].up.out;
  const int64_t joint = (c.heads + 2 * c.kv_heads) * c.head_dim;
  x = make(c.hidden);
  normed = make(std::max(c.hidden, c.intermediate));
  wide = make(std::max({joint, up, c.hidden}));
  q = make(c.heads * c.head_dim);
  k = make(c.kv_heads * c.head_dim);
  v = make(c.kv_heads * c.head_dim);
  attended = make(c.heads * c.head_dim);
  logits = make(c.vocab);
  if (layers.model_.dtype() != at::kFloat)
    scratch.resize(static_cast<size_t>(
        kMaxRows * plain_scratch_floats(std::max({c.hidden, c.intermediate, c.heads * c.head_dim}))));
}

template <class T>
void DecodeLayers::embed(Workspace& w, int64_t rows) const {
  const ModelConfig& c = model_.config();
  const T* table = static_cast<const T*>(model_.weights().embedding.const_data_ptr());
  T* x = static_cast<T*>(w.x.mutable_data_ptr());
  parallel_for(context_, rows, 1,
               [&](int64_t r, int64_t) { std::copy_n(table + w.ids[r] * c.hidden, c.hidden, x + r * c.hidden); });
  // Gemma rounds the scale to the weights' dtype before it multiplies.
  if (c.embed_scale != 1) {
    const float scale = rounded<T>(static_cast<float>(c.embed_scale));
    each<T>(context_, w.x, rows * c.hidden, [&](float value, int64_t) { return value * scale; });
  }
  if (!c.learned_positions) return;
  const T* learned = static_cast<const T*>(model_.weights().positions.const_data_ptr());
  each<T>(context_, w.x, rows * c.hidden, [&](float value, int64_t i) {
    return value + load(learned + w.positions[i / c.hidden] * c.hidden + i % c.hidden);
  });
}

void DecodeLayers::norm(const at::Tensor& x, const NormWeights& weights, at::Tensor& y, int64_t rows) const {
  const ops::NormParams p = model_.norm_params();
  NormArgs a{};
  a.x = x.const_data_ptr();
  a.weight = weights.weight.const_data_ptr();
  a.bias = weights.bias.defined() ? weights.bias.const_data_ptr() : nullptr;
  a.y = y.mutable_data_ptr();
  a.rows = rows;
  a.width = a.x_stride = model_.config().hidden;
  a.eps = static_cast<float>(p.eps);
  a.weight_offset = static_cast<float>(p.weight_offset);
  a.center = p.center;
  a.dtype = dtype_of(x);
  norm_forward(context_, a);
}

void DecodeLayers::product(Workspace& w, const DecodeLinear& l, const at::Tensor& x, const at::Tensor* residual,
                           at::Tensor& y, int64_t rows) const {
  const void* bias = l.bias.defined() ? l.bias.const_data_ptr() : nullptr;
  const void* added = residual ? residual->const_data_ptr() : nullptr;
  if (l.packed)
    linear_forward({x.const_data_ptr(), l.packed, bias, added, y.mutable_data_ptr(), rows, l.in, l.out, dtype_of(x),
                    w.scratch.data()});
  else
    linear_plain(context_, {x.const_data_ptr(), l.weight.const_data_ptr(), bias, added, y.mutable_data_ptr(), rows,
                            l.in, l.out, dtype_of(x), w.scratch.data()});
}

void DecodeLayers::add_product(Workspace& w, const DecodeLinear& l, const at::Tensor& input, const NormWeights& post,
                               int64_t rows) const {
  if (!model_.config().post_norms) return product(w, l, input, &w.x, w.x, rows);
  product(w, l, input, nullptr, w.wide, rows);
  norm(w.wide, post, w.normed, rows);
  const auto add = [&]<class T>(T*) {
    const T* from = static_cast<const T*>(w.normed.const_data_ptr());
    each<T>(context_, w.x, rows * model_.config().hidden,
            [&](float value, int64_t i) { return value + load(from + i); });
  };
  w.x.scalar_type() == at::kFloat ? add(static_cast<float*>(nullptr)) : add(static_cast<bf16*>(nullptr));
}

void DecodeLayers::attend(Workspace& w, int64_t layer, const DecodeSequence* const* sequences, int64_t rows) const {
  const ModelConfig& c = model_.config();
  const LayerWeights& weights = model_.weights().layers[static_cast<size_t>(layer)];
  const RopeTable* rope = model_.rope(layer, 0);
  RopeArgs split{};
  split.qkv = w.wide.const_data_ptr();
  split.positions = w.positions.data();
  split.cos = rope ? rope->cos() : nullptr;
  split.sin = rope ? rope->sin() : nullptr;
  split.q_norm = weights.q_norm.defined() ? weights.q_norm.const_data_ptr() : nullptr;
  split.k_norm = weights.k_norm.defined() ? weights.k_norm.const_data_ptr() : nullptr;
  split.q = w.q.mutable_data_ptr();
  split.k = w.k.mutable_data_ptr();
  split.v = w.v.mutable_data_ptr();
  split.rows = rows;
  split.heads = c.heads;
  split.kv_heads = c.kv_heads;
  split.dim = c.head_dim;
  split.eps = static_cast<float>(c.norm_eps);
  split.weight_offset = static_cast<float>(c.norm_offset);
  split.dtype = dtype_of(w.q);
  rope_forward(context_, split);
  DecodeAttentionArgs a = decode_attention_args(model_, layer, sequences, rows);
  a.q = split.q;
  a.k = split.k;
  a.v = split.v;
  a.out = w.attended.mutable_data_ptr();
  decode_attention(context_, a);
}

const void* DecodeLayers::run(Workspace& w, const DecodeSequence* const* sequences, int64_t rows) const {
  const ModelConfig& c = model_.config();
  const bool f32 = model_.dtype() == at::kFloat;
  f32 ? embed<float>(w, rows) : embed<bf16>(w, rows);
  for (int64_t i = 0; i < c.layers; ++i) {
    const Layer& l = layers_[static_cast<size_t>(i)];
    const LayerWeights& weights = model_.weights().layers[static_cast<size_t>(i)];
    norm(w.x, weights.attention_norm, w.normed, rows);
    product(w, l.qkv, w.normed, nullptr, w.wide, rows);
    attend(w, i, sequences, rows);
    add_product(w, l.out, w.attended, weights.post_attention_norm, rows);
    norm(w.x, weights.mlp_norm, w.normed, rows);
    product(w, l.up, w.normed, nullptr, w.wide, rows);
    activation_forward(context_, {w.wide.const_data_ptr(), nullptr, w.normed.mutable_data_ptr(), rows, l.down.in,
                                  c.activation, c.gated_mlp, dtype_of(w.wide)});
    add_product(w, l.down, w.normed, weights.post_mlp_norm, rows);
  }
  norm(w.x, model_.weights().final_norm, w.normed, rows);
  product(w, head_, w.normed, nullptr, w.logits, rows);
  if (const double cap = c.logit_softcap; cap > 0) {
    const auto capped = [&]<class T>(T*) {
      const auto limit = static_cast<float>(cap);
      each<T>(context_, w.logits, rows * c.vocab,
              [&](float z, int64_t) { return rounded<T>(std::tanh(rounded<T>(z / limit))) * limit; });
    };
    f32 ? capped(static_cast<float*>(nullptr)) : capped(static_cast<bf16*>(nullptr));
  }
  return w.logits.const_data_ptr();
}

}  // namespace fg
