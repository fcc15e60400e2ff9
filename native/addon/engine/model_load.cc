// Loading, saving and disposing of a model.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "addon/engine/model_handle.h"
#include "torch/caching_allocator.h"
#include "torch/error.h"

namespace fg {

namespace {

template <class E>
E choice(const Napi::Object& o, const char* key, std::initializer_list<std::pair<const char*, E>> names) {
  const std::string value = string_at(o, key);
  for (const auto& [name, meaning] : names)
    if (value == name) return meaning;
  throw bad_argument(key, "a known value, not '" + value + "',");
}

RopeConfig read_rope(const Napi::Value& value) {
  RopeConfig r;
  if (value.IsNull() || value.IsUndefined()) return r;
  const Napi::Object o = object_at(value, "rope");
  using Type = RopeConfig::Type;
  r.type = choice<Type>(
      o, "type",
      {{"default", Type::standard}, {"linear", Type::linear}, {"llama3", Type::llama3}, {"yarn", Type::yarn}});
  r.theta = number_at(o, "theta");
  r.factor = number_at(o, "factor");
  r.low_freq_factor = number_at(o, "lowFreqFactor");
  r.high_freq_factor = number_at(o, "highFreqFactor");
  r.original_max_positions = number_at(o, "originalMaxPositions");
  r.beta_fast = number_at(o, "betaFast");
  r.beta_slow = number_at(o, "betaSlow");
  r.attention_factor = number_at(o, "attentionFactor");
  r.truncate = bool_at(o, "truncate");
  return r;
}

void check(const ModelConfig& c) {
  const bool sizes = c.vocab > 0 && c.hidden > 0 && c.layers > 0 && c.heads > 0 && c.kv_heads > 0 && c.head_dim > 0 &&
                     c.intermediate > 0 && c.max_positions > 0;
  if (!sizes || c.heads % c.kv_heads != 0 || c.head_dim > 1024 || c.head_dim % 2 != 0 || c.vocab > INT32_MAX ||
      c.layer_rope.size() != static_cast<size_t>(c.layers) || c.layer_window.size() != static_cast<size_t>(c.layers))
    throw model_error("the model's dimensions do not fit together");
}

ModelConfig read_config(const Napi::Value& value) {
  const Napi::Object o = object_at(value, "config");
  ModelConfig c;
  c.naming = choice<Naming>(o, "naming", {{"llama", Naming::llama}, {"gpt2", Naming::gpt2}});
  c.vocab = integer_at(o, "vocabSize");
  c.hidden = integer_at(o, "hiddenSize");
  c.layers = integer_at(o, "layers");
  c.heads = integer_at(o, "heads");
  c.kv_heads = integer_at(o, "kvHeads");
  c.head_dim = integer_at(o, "headDim");
  c.intermediate = integer_at(o, "intermediateSize");
  c.max_positions = integer_at(o, "maxPositions");
  c.norm_eps = number_at(o, "normEps");
  c.layer_norm = bool_at(o, "layerNorm");
  c.norm_offset = number_at(o, "normOffset");
  c.activation = choice<Activation>(o, "activation",
                                    {{"silu", Activation::silu},
                                     {"gelu_tanh", Activation::gelu_tanh},
                                     {"gelu", Activation::gelu},
                                     {"relu", Activation::relu}});
  c.gated_mlp = bool_at(o, "gatedMlp");
  c.qkv_bias = bool_at(o, "qkvBias");
  c.out_bias = bool_at(o, "outBias");
  c.mlp_bias = bool_at(o, "mlpBias");
  c.qk_norm = bool_at(o, "qkNorm");
  c.post_norms = bool_at(o, "postNorms");
  c.learned_positions = bool_at(o, "learnedPositions");
  c.tied_head = bool_at(o, "tiedHead");
  c.embed_scale = number_at(o, "embedScale");
  c.attention_scale = number_at(o, "attentionScale");
  c.logit_softcap = number_at(o, "logitSoftcap");
  c.rope = read_rope(o.Get("rope"));
  c.rope_local = read_rope(o.Get("ropeLocal"));
  c.layer_rope = int32s_at(o, "layerRope");
  c.layer_window = int32s_at(o, "layerWindow");
  check(c);
  return c;
}

}  // namespace

Napi::Function ModelHandle::define(Napi::Env env) {
  return DefineClass(env, "Model",
                     {
                         InstanceMethod("load", &ModelHandle::load),
                         InstanceMethod("save", &ModelHandle::save),
                         InstanceMethod("dispose", &ModelHandle::dispose),
                         InstanceMethod("parameters", &ModelHandle::parameters),
                         InstanceMethod("logits", &ModelHandle::logits),
                         InstanceMethod("score", &ModelHandle::score),
                         InstanceMethod("gradients", &ModelHandle::gradients),
                         InstanceMethod("generate", &ModelHandle::generate),
                         InstanceMethod("accumulate", &ModelHandle::accumulate),
                         InstanceMethod("optimizerStep", &ModelHandle::optimizer_step),
                         InstanceMethod("zeroGrad", &ModelHandle::zero_grad),
                         InstanceMethod("gradientNorm", &ModelHandle::gradient_norm),
                         InstanceMethod("digest", &ModelHandle::digest),
                         InstanceMethod("shardOptimizer", &ModelHandle::shard_optimizer),
                         InstanceMethod("saveOptimizer", &ModelHandle::save_optimizer),
                         InstanceMethod("loadOptimizer", &ModelHandle::load_optimizer),
                         InstanceMethod("values", &ModelHandle::values),
                         InstanceMethod("accumulatePairs", &ModelHandle::accumulate_pairs),
                         InstanceMethod("accumulateValues", &ModelHandle::accumulate_values),
                         InstanceMethod("cloneInto", &ModelHandle::clone_into),
                         InstanceMethod("setTokenBytes", &ModelHandle::set_token_bytes),
                         InstanceMethod("describe", &ModelHandle::describe),
                         InstanceMethod("chooseTrained", &ModelHandle::choose_trained),
                         InstanceMethod("addAdapter", &ModelHandle::add_adapter),
                         InstanceMethod("loadAdapter", &ModelHandle::load_adapter),
                         InstanceMethod("saveAdapter", &ModelHandle::save_adapter),
                         InstanceMethod("mergeAdapter", &ModelHandle::merge_adapter),
                         InstanceMethod("adapter", &ModelHandle::adapter),
                         InstanceMethod("trainingMemory", &ModelHandle::training_memory),
                     });
}

ModelHandle::ModelHandle(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ModelHandle>(info),
      thread_(info.Env(), static_cast<int>(integer_at(object_at(info[0], "options"), "threads"))) {}

ModelHandle::~ModelHandle() {
  // A finalizer: the queue is empty, since pending calls keep the handle alive. Env() is gone or going: no JavaScript
  // here.
  if (reported_bytes_ != 0) Napi::MemoryManagement::AdjustExternalMemory(Env(), -reported_bytes_);
}

void ModelHandle::report_memory(Napi::Env env, int64_t bytes) {
  constexpr int64_t kStep = int64_t{512} << 20;  // V8 takes one large report as a reason to collect everything at once
  for (int64_t left = bytes - reported_bytes_; left != 0;) {
    const int64_t step = std::clamp(left, -kStep, kStep);
    Napi::MemoryManagement::AdjustExternalMemory(env, step);
    left -= step;
  }
  reported_bytes_ = bytes;
}

Napi::Value ModelHandle::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    ModelConfig config = read_config(info[0]);
    config.scalar_head = !info[3].IsUndefined() && !info[3].IsNull();
    if (config.scalar_head && !info[3].IsBoolean()) config.score_init = score_init(info[3]);
    const std::vector<std::string> files = strings_at(info[1], "files");
    const std::string dtype = string_of(info[2], "dtype");
    if (dtype != "float32" && dtype != "bfloat16") throw bad_argument("dtype", "'float32' or 'bfloat16'");
    const at::ScalarType type = dtype == "float32" ? at::kFloat : at::kBFloat16;
    vocab_ = config.vocab;
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(),
                          [this, state = state_, config, files, type](const std::atomic<bool>& abort) {
                            state->model = Transformer::load(config, files, type, abort);
                            const int64_t count = state->model->parameter_count(),
                                          bytes = state->model->parameter_bytes();
                            return Deliver([this, count, bytes](Napi::Env env) -> Napi::Value {
                              report_memory(env, bytes);
                              auto out = Napi::Object::New(env);
                              out.Set("parameters", static_cast<double>(count));
                              out.Set("bytes", static_cast<double>(bytes));
                              return out;
                            });
                          });
  });
}

Napi::Value ModelHandle::save(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [file = string_of(info[0], "file")](ModelState& state, const std::atomic<bool>&) {
      state.model->save(file);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value ModelHandle::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    thread_.dispose([state = state_] {
      state->training.reset();
      state->model.reset();
      release_cached_memory();
    });
    report_memory(info.Env(), 0);
    return info.Env().Undefined();
  });
}

Deliver deliver_tensors(const NamedTensors& tensors) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors)
    copies.emplace_back(name, tensor.detach().to(at::kFloat, false, true).contiguous());
  return [copies](Napi::Env env) -> Napi::Value {
    auto out = Napi::Array::New(env, copies.size());
    for (uint32_t i = 0; i < copies.size(); ++i) {
      const at::Tensor& t = copies[i].second;
      auto entry = Napi::Object::New(env), shape = Napi::Array::New(env).As<Napi::Object>();
      for (int64_t d = 0; d < t.dim(); ++d) shape.Set(static_cast<uint32_t>(d), static_cast<double>(t.size(d)));
      auto data = Napi::Float32Array::New(env, static_cast<size_t>(t.numel()));
      std::copy_n(t.const_data_ptr<float>(), t.numel(), data.Data());
      entry.Set("name", copies[i].first);
      entry.Set("shape", shape);
      entry.Set("data", data);
      out.Set(i, entry);
    }
    return out;
  };
}

Napi::Value ModelHandle::digest(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) -> Deliver {
      uint64_t hash = 1469598103934665603u;  // FNV-1a, eight bytes at a time
      for (const auto& [name, tensor] : state.model->parameters()) {
        const auto* bytes = static_cast<const char*>(tensor.const_data_ptr());
        const size_t n = tensor.nbytes();
        for (size_t i = 0; i < n; i += 8) {
          uint64_t word = 0;
          std::memcpy(&word, bytes + i, std::min<size_t>(8, n - i));
          hash = (hash ^ word) * 1099511628211u;
          hash ^= hash >> 29;
        }
      }
      char text[20];
      std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
      return [text = std::string(text)](Napi::Env env) { return Napi::String::New(env, text); };
    });
  });
}

Napi::Value ModelHandle::parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(
        info, [](ModelState& state, const std::atomic<bool>&) { return deliver_tensors(state.model->parameters()); });
  });
}

}  // namespace fg
