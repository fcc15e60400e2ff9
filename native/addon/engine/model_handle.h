#pragma once
// The JavaScript handle of a model. Methods that compute return { promise, abort } and run on the model's owner thread.
// One file per group of methods: model_load.cc, model_generate.cc, model_score.cc, ...
#include <memory>

#include "addon/engine/convert.h"
#include "addon/engine/owner_thread.h"
#include "torch/error.h"
#include "torch/model/transformer.h"

namespace fg {

/// What training adds to a model (optimizer, schedule, reference). Touched on the owner thread only.
struct TrainingState {
  virtual ~TrainingState() = default;
};

/// The tensors as { name, shape, data: Float32Array }[]; copies them at once.
Deliver deliver_tensors(const NamedTensors& tensors);

/// Everything that belongs to the owner thread. Calls capture it by shared_ptr, so it outlives the handle if need be.
struct ModelState {
  std::shared_ptr<Transformer> model;  // null before load and after dispose
  std::unique_ptr<TrainingState> training;
};

class ModelHandle : public Napi::ObjectWrap<ModelHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  /// new Model({ threads }): an empty model with its thread. threads 0 = as many as the process may use.
  explicit ModelHandle(const Napi::CallbackInfo& info);
  ~ModelHandle() override;

 private:
  // model_load.cc
  Napi::Value load(
      const Napi::CallbackInfo& info);  // (config, files: string[], dtype, scalarHead?: true (in the files) or { std,
                                        // seed } of a new one) -> call<{ parameters, bytes, ... }>
  Napi::Value save(const Napi::CallbackInfo& info);     // (file) -> call<void>
  Napi::Value dispose(const Napi::CallbackInfo& info);  // ()
  Napi::Value parameters(
      const Napi::CallbackInfo& info);  // () -> call<{ name, shape, data: Float32Array }[]>: for tests and tools
  Napi::Value digest(const Napi::CallbackInfo& info);  // () -> call<string>: of all weights
  // model_score.cc
  Napi::Value logits(const Napi::CallbackInfo& info);  // (lists) -> call<Float32Array (tokens, vocab)>
  Napi::Value score(const Napi::CallbackInfo& info);   // (prompts, completions, options) -> call<{ logps, entropies? }>
  Napi::Value gradients(
      const Napi::CallbackInfo& info);  // (lists) -> call<{ loss, gradients }> of the mean NLL: for checks
  // model_generate.cc
  Napi::Value generate(
      const Napi::CallbackInfo& info);  // (prompts, options) -> call<{ tokens, logps, stopped, stopAt }[]>
  Napi::Value set_token_bytes(
      const Napi::CallbackInfo& info);  // ({ bytes, offsets }): once, before stop strings are used

  // model_adapter.cc
  Napi::Value describe(const Napi::CallbackInfo& info);  // () -> call<{ parameters: string[], modules: string[] }>
  Napi::Value choose_trained(const Napi::CallbackInfo& info);  // ({ names (none: all), recompute }) -> call<void>
  Napi::Value add_adapter(const Napi::CallbackInfo& info);     // ({ modules, rank, scale, seed }) -> call<void>
  Napi::Value load_adapter(const Napi::CallbackInfo& info);    // (file, { rank, scale }) -> call<void>
  Napi::Value save_adapter(const Napi::CallbackInfo& info);    // (file) -> call<void>
  Napi::Value merge_adapter(const Napi::CallbackInfo& info);   // () -> call<void>
  Napi::Value adapter(const Napi::CallbackInfo& info);         // () -> as parameters: for tests and tools

  // model_train.cc
  Napi::Value training_memory(
      const Napi::CallbackInfo& info);                     // () -> call<{ parameters, optimizerBytes, bytesPerRow }>
  Napi::Value accumulate(const Napi::CallbackInfo& info);  // (batch, options) -> call<AccumulateResult>
  Napi::Value optimizer_step(const Napi::CallbackInfo& info);   // (options) -> call<number>: the gradient norm
  Napi::Value zero_grad(const Napi::CallbackInfo& info);        // () -> call<void>
  Napi::Value gradient_norm(const Napi::CallbackInfo& info);    // () -> call<number>
  Napi::Value shard_optimizer(const Napi::CallbackInfo& info);  // (Group) -> call<void>: before the first step or load
  Napi::Value save_optimizer(const Napi::CallbackInfo& info);   // (file) -> call<void>
  Napi::Value load_optimizer(const Napi::CallbackInfo& info);   // (file) -> call<void>
  Napi::Value clone_into(const Napi::CallbackInfo&
                             info);  // (empty Model, scalarHead?) -> call<void>: copies of the weights, not trainable
  // model_scalar.cc
  Napi::Value values(const Napi::CallbackInfo& info);  // (prompts, completions, options) -> call<Float32Array>
  Napi::Value accumulate_pairs(const Napi::CallbackInfo& info);   // (batch, options) -> call<PairResult>
  Napi::Value accumulate_values(const Napi::CallbackInfo& info);  // (batch, options) -> call<ValueResult>

  /// Queues `work(model, abort)`; the model is there.
  template <class Fn>
  Napi::Value submit(const Napi::CallbackInfo& info, Fn work) {
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(),
                          [state = state_, work = std::move(work)](const std::atomic<bool>& abort) mutable {
                            if (!state->model) throw CodedError("ERR_MODEL", "no model is loaded");
                            return Deliver(work(*state, abort));
                          });
  }
  void report_memory(Napi::Env env, int64_t bytes);

  OwnerThread thread_;
  std::shared_ptr<ModelState> state_ = std::make_shared<ModelState>();
  int64_t vocab_ = 0;  // event loop: for checking ids before a call is queued
  int64_t reported_bytes_ = 0;
  std::shared_ptr<const std::vector<std::string>> token_bytes_;
};

}  // namespace fg
