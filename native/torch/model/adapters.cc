// What of a transformer training changes: some of its parameters, or LoRA adapters beside frozen ones.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "math/random.h"
#include "torch/error.h"
#include "torch/model/transformer.h"

namespace fg {

namespace {

constexpr const char* kPrefix = "base_model.model.";

/// peft wraps the language model, whose GPT-2 names begin with "transformer." even where the checkpoint's do not.
std::string peft_name(const ModelConfig& config, const Weights& weights, const std::string& module) {
  return config.naming == Naming::gpt2 && weights.prefix.empty() ? "transformer." + module : module;
}

/// Uniform in +-bound, number i of stream `stream` of the seed.
void fill_uniform(at::Tensor t, double bound, uint64_t seed, uint32_t stream) {
  float* out = t.mutable_data_ptr<float>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double u = token_uniform(seed, 0x4c6f5241, stream, static_cast<uint32_t>(i >> 32), static_cast<uint32_t>(i));
    out[i] = static_cast<float>((2 * u - 1) * bound);
  }
}

/// A slice that is a leaf of its own.
at::Tensor slice(const at::Tensor& whole, int64_t begin, int64_t size) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return whole.narrow(0, begin, size);
}

int64_t outputs(const Linear& l, size_t part) { return l.weight_parts[part].size(l.transposed ? 1 : 0); }
int64_t inputs(const Linear& l) { return l.weight.size(l.transposed ? 0 : 1); }

/// The adapters of a product's parts `which`, A and B zero.
LowRank make_low_rank(const Linear& l, const std::vector<size_t>& which, int64_t rank, double scale) {
  LowRank low;
  low.scale = scale;
  low.joint_a = at::zeros({static_cast<int64_t>(which.size()) * rank, inputs(l)}, at::TensorOptions(at::kFloat));
  int64_t begin = 0;
  for (size_t part = 0, at = 0; part < l.modules.size(); ++part) {
    if (at < which.size() && which[at] == part) {
      const at::Tensor b = at::zeros({outputs(l, part), rank}, at::TensorOptions(at::kFloat));
      low.parts.push_back({l.modules[part], begin, slice(low.joint_a, static_cast<int64_t>(at) * rank, rank), b});
      ++at;
    }
    begin += outputs(l, part);
  }
  return low;
}

CodedError invalid(const std::string& message) { return CodedError("ERR_INVALID_ARG", message); }

}  // namespace

void Transformer::choose_trained(const std::vector<std::string>& names, bool recompute) {
  std::set<std::string> known;
  for (const auto& [name, tensor] : weights_.named) known.insert(name);
  for (const std::string& name : names)
    if (!known.contains(name)) throw invalid("The model has no parameter '" + name + "'");
  chosen_ = names;
  recomputes_training_ = recompute;
}

NamedTensors Transformer::trained() const {
  if (has_adapters()) return adapters();
  if (chosen_.empty()) return weights_.named;
  const std::set<std::string> chosen(chosen_.begin(), chosen_.end());
  NamedTensors out;
  std::copy_if(weights_.named.begin(), weights_.named.end(), std::back_inserter(out),
               [&](const auto& named) { return chosen.contains(named.first); });
  return out;
}

bool Transformer::trains(int64_t layer) const {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const auto wants = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  for (const NormWeights* n : {&w.attention_norm, &w.mlp_norm, &w.post_attention_norm, &w.post_mlp_norm})
    if (wants(n->weight) || wants(n->bias)) return true;
  if (wants(w.q_norm) || wants(w.k_norm)) return true;
  for (const Linear* l : {&w.qkv, &w.out, &w.up, &w.down}) {
    if (std::any_of(l->weight_parts.begin(), l->weight_parts.end(), wants)) return true;
    if (std::any_of(l->bias_parts.begin(), l->bias_parts.end(), wants)) return true;
    for (const LowRankPart& p : l->low_rank.parts)
      if (adapters_on_ && (wants(p.a) || wants(p.b))) return true;
  }
  return false;
}

std::vector<std::string> Transformer::linear_modules() const {
  std::vector<std::string> all;
  for (const LayerWeights& w : weights_.layers)
    for (const Linear* l : {&w.qkv, &w.out, &w.up, &w.down})
      for (const std::string& module : l->modules) all.push_back(peft_name(config_, weights_, module));
  return all;
}

bool Transformer::has_adapters() const {
  return std::any_of(weights_.layers.begin(), weights_.layers.end(), [](const LayerWeights& w) {
    return !(w.qkv.low_rank.parts.empty() && w.out.low_rank.parts.empty() && w.up.low_rank.parts.empty() &&
             w.down.low_rank.parts.empty());
  });
}

NamedTensors Transformer::adapters() const {
  NamedTensors out;
  for (const LayerWeights& w : weights_.layers)
    for (const Linear* l : {&w.qkv, &w.out, &w.up, &w.down})
      for (const LowRankPart& p : l->low_rank.parts) {
        const std::string name = kPrefix + peft_name(config_, weights_, p.module);
        out.emplace_back(name + ".lora_A.weight", p.a);
        out.emplace_back(name + ".lora_B.weight", p.b);
      }
  return out;
}

void Transformer::add_adapters(const std::vector<std::string>& modules, int64_t rank, double scale, uint64_t seed) {
  if (has_adapters()) throw invalid("The model has adapters already");
  if (rank < 1) throw invalid("Expected a rank of at least 1");
  std::set<std::string> wanted(modules.begin(), modules.end());
  at::NoGradGuard no_grad;
  uint32_t stream = 0;  // counts all parts, so that a module's numbers do not depend on which others have an adapter
  each_linear(weights_, [&](int64_t, Linear& l) {
    std::vector<size_t> which;
    std::vector<uint32_t> streams;
    for (size_t part = 0; part < l.modules.size(); ++part, ++stream)
      if (wanted.erase(peft_name(config_, weights_, l.modules[part]))) which.push_back(part), streams.push_back(stream);
    if (which.empty()) return;
    l.low_rank = make_low_rank(l, which, rank, scale);
    for (size_t i = 0; i < which.size(); ++i)
      fill_uniform(l.low_rank.parts[i].a, 1 / std::sqrt(static_cast<double>(inputs(l))), seed, streams[i]);
  });
  if (wanted.empty()) return;
  each_linear(weights_, [](int64_t, Linear& l) { l.low_rank = {}; });
  throw invalid("The model has no linear module '" + *wanted.begin() + "'");
}

void Transformer::load_adapters(const std::string& file, int64_t rank, double scale) {
  const Checkpoint source({file});
  const std::string prefix = kPrefix, tail = ".lora_A.weight";
  std::vector<std::string> modules;
  const std::vector<std::string> known = linear_modules();
  for (const std::string& name : source.names()) {
    if (!name.starts_with(prefix) || !name.ends_with(tail)) continue;
    modules.push_back(name.substr(prefix.size(), name.size() - prefix.size() - tail.size()));
    if (std::find(known.begin(), known.end(), modules.back()) == known.end())
      throw model_error(file + ": tensor '" + name + "' is of a module that the base model does not have, or that " +
                        "cannot have an adapter here (only the projections of the layers can)");
  }
  if (modules.empty())
    throw model_error(file + " holds no LoRA weights (tensors '" + prefix + "<module>" + tail + "')");
  add_adapters(modules, rank, scale, 0);
  try {
    const NamedTensors leaves = adapters();
    std::set<std::string> unread;
    for (const std::string& name : source.names()) unread.insert(name);
    for (const auto& [name, tensor] : leaves) {
      source.copy_to(name, tensor);
      unread.erase(name);
    }
    if (!unread.empty()) throw model_error(file + ": tensor '" + *unread.begin() + "' is not understood");
  } catch (...) {
    each_linear(weights_, [](int64_t, Linear& l) { l.low_rank = {}; });
    throw;
  }
}

void Transformer::save_adapters(const std::string& file) const { write_safetensors(file, adapters()); }

void Transformer::merge_adapters() {
  at::NoGradGuard no_grad;
  each_linear(weights_, [&](int64_t, Linear& l) {
    if (l.low_rank.parts.empty()) return;
    l.weight.copy_(ops::merged_weight(l.weight, l.transposed, l.low_rank, dtype()));
    l.low_rank = {};
  });
}

void Transformer::copy_adapters(const Transformer& from) {
  at::NoGradGuard no_grad;
  size_t i = 0;
  std::vector<const Linear*> theirs;
  for (const LayerWeights& w : from.weights_.layers)
    for (const Linear* l : {&w.qkv, &w.out, &w.up, &w.down}) theirs.push_back(l);
  each_linear(weights_, [&](int64_t, Linear& l) {
    const LowRank& source = theirs[i++]->low_rank;
    if (source.parts.empty()) return;
    std::vector<size_t> which;
    for (const LowRankPart& p : source.parts)
      which.push_back(static_cast<size_t>(std::find(l.modules.begin(), l.modules.end(), p.module) - l.modules.begin()));
    l.low_rank = make_low_rank(l, which, source.parts[0].a.size(0), source.scale);
    l.low_rank.joint_a.copy_(source.joint_a);
    for (size_t p = 0; p < source.parts.size(); ++p) l.low_rank.parts[p].b.copy_(source.parts[p].b);
  });
}

}  // namespace fg
