// Training steps of a model: gradients of a batch, the optimizer step, and saving what the optimizer remembers.
#include <limits>

#include "addon/common/loss_arguments.h"
#include "addon/engine/model_training.h"

namespace fg {
namespace {

TrainBatch batch_of(const Napi::Object& o, int64_t vocab) {
  TrainBatch b;
  b.tokens = int32s_at(o, "tokens");
  b.offsets = int32s_at(o, "offsets");
  b.prompt_lengths = int32s_at(o, "promptLengths");
  b.advantages = copy_typed<float>(o.Get("advantages"), "advantages", napi_float32_array, "a Float32Array");
  b.old_logps = optional<float>(o, "oldLogps", napi_float32_array, "a Float32Array");
  b.ref_logps = optional<float>(o, "refLogps", napi_float32_array, "a Float32Array");
  b.sampler_logps = optional<float>(o, "samplerLogps", napi_float32_array, "a Float32Array");
  b.mask = optional<uint8_t>(o, "mask", napi_uint8_array, "a Uint8Array");
  b.truncated = optional<uint8_t>(o, "truncated", napi_uint8_array, "a Uint8Array");
  expect(b.offsets.size() == b.prompt_lengths.size() + 1 && b.offsets.front() == 0 &&
             b.offsets.back() == static_cast<int64_t>(b.tokens.size()),
         "offsets (B + 1) from 0 to the number of tokens");
  int64_t completion_tokens = 0;
  for (int64_t s = 0; s < b.sequences(); ++s) {
    expect(b.length(s) >= 1 && b.prompt_lengths[s] >= 1 && b.prompt_lengths[s] <= b.length(s),
           "promptLengths from 1 to the sequence's length");
    completion_tokens += b.completion(s);
  }
  for (const int32_t id : b.tokens) expect(id >= 0 && id < vocab, "token ids within the vocabulary");
  const auto fits = [&](size_t size) { return size == 0 || static_cast<int64_t>(size) == completion_tokens; };
  expect(fits(b.old_logps.size()) && fits(b.ref_logps.size()) && fits(b.sampler_logps.size()) && fits(b.mask.size()),
         "one log-prob (and mask) per completion token");
  expect(static_cast<int64_t>(b.advantages.size()) == b.sequences() || fits(b.advantages.size()),
         "one advantage per sequence or per completion token");
  expect(b.truncated.empty() || b.truncated.size() == b.prompt_lengths.size(), "one truncated flag per sequence");
  return b;
}

/// `o`: the native fields of lib/ops/config.ts, with those of the training step.
TrainOptions options_of(const Napi::Object& o) {
  TrainOptions t;
  t.loss = loss_params(Arguments(o), {});
  t.temperature = number_at(o, "temperature");
  t.normalizer = number_at(o, "normalizer");
  const double entropy_coef = number_at(o, "entropyCoef"), entropy_normalizer = number_at(o, "entropyNormalizer");
  t.micro_batch_tokens = integer_at(o, "microBatchTokens");
  t.fused = bool_at(o, "fused");
  t.workspace_bytes = integer_at(o, "workspaceBytes");
  t.skip_zero_advantages = bool_at(o, "skipZeroAdvantages");
  expect(t.normalizer > 0 && t.temperature > 0 && t.micro_batch_tokens >= 0,
         "a positive normalizer and temperature, and microBatchTokens of at least 0");
  expect(entropy_coef == 0 || entropy_normalizer > 0, "a positive entropyNormalizer");
  if (entropy_coef != 0) t.entropy_weight = entropy_coef / entropy_normalizer;
  return t;
}

Napi::Value to_js(Napi::Env env, const TrainResult& result, bool with_kl) {
  const kernels::PolicyMetrics& m = result.metrics;
  const double tokens = static_cast<double>(std::max<int64_t>(1, m.tokens));
  const auto set = [&](Napi::Object o, const char* key, double value) { o.Set(key, Napi::Number::New(env, value)); };
  auto out = Napi::Object::New(env), clip = Napi::Object::New(env), ratio = Napi::Object::New(env);
  set(out, "loss", m.loss);
  set(out, "tokens", static_cast<double>(m.tokens));
  set(out, "sequences", static_cast<double>(m.sequences));
  if (with_kl) set(out, "kl", m.kl / tokens);
  set(out, "entropy", m.entropy / tokens);
  set(out, "meanLogp", result.logp_sum / tokens);
  set(clip, "low", static_cast<double>(m.clipped_low) / tokens);
  set(clip, "high", static_cast<double>(m.clipped_high) / tokens);
  set(clip, "region", static_cast<double>(m.clipped_low + m.clipped_high) / tokens);
  set(ratio, "min", m.tokens ? m.ratio_min : 1);
  set(ratio, "mean", m.tokens ? m.ratio / tokens : 1);
  set(ratio, "max", m.tokens ? m.ratio_max : 1);
  out.Set("clipRatio", clip);
  out.Set("ratio", ratio);
  return out;
}

}  // namespace

Napi::Value ModelHandle::accumulate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto batch = std::make_shared<TrainBatch>(batch_of(object_at(info[0], "batch"), vocab_));
    const Napi::Object o = object_at(info[1], "options");
    TrainOptions options = options_of(o);
    if (!bool_at(o, "maskTruncatedCompletions")) batch->truncated.clear();
    expect(options.loss.beta == 0 || !batch->ref_logps.empty() || batch->tokens.empty(), "refLogps when beta is not 0");
    expect(options.loss.sampler == SamplerCorrection::none || !batch->sampler_logps.empty() || batch->tokens.empty(),
           "samplerLogps for samplerImportanceSampling");
    return submit(
        info, [batch, options, group = group_of(o)](ModelState& state, const std::atomic<bool>& abort) -> Deliver {
          trainer_of(state).sum_over(group);
          const TrainResult result = trainer_of(state).accumulate(*batch, options, abort);
          return [result, with_kl = options.loss.beta != 0](Napi::Env env) { return to_js(env, result, with_kl); };
        });
  });
}

Napi::Value ModelHandle::training_memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) -> Deliver {
      Trainer& trainer = trainer_of(state);
      int64_t parameters = 0;
      for (const auto& [name, tensor] : state.model->trained()) parameters += tensor.numel();
      return [parameters, optimizer = trainer.optimizer().bytes(), row = trainer.bytes_per_row()](Napi::Env env) {
        auto out = Napi::Object::New(env);
        out.Set("parameters", static_cast<double>(parameters));
        out.Set("optimizerBytes", static_cast<double>(optimizer));
        out.Set("bytesPerRow", static_cast<double>(row));
        return out;
      };
    });
  });
}

Napi::Value ModelHandle::optimizer_step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "options");
    const AdamWOptions options{number_at(o, "learningRate"), number_at(o, "weightDecay"), number_at(o, "adamBeta1"),
                               number_at(o, "adamBeta2"),    number_at(o, "adamEpsilon"), number_at(o, "maxGradNorm")};
    return submit(info, [options](ModelState& state, const std::atomic<bool>&) -> Deliver {
      const double norm = trainer_of(state).optimizer().step(options);
      return [norm](Napi::Env env) { return Napi::Number::New(env, norm); };
    });
  });
}

Napi::Value ModelHandle::gradient_norm(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) -> Deliver {
      const double norm = trainer_of(state).optimizer().gradient_norm();
      return [norm](Napi::Env env) { return Napi::Number::New(env, norm); };
    });
  });
}

Napi::Value ModelHandle::zero_grad(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) -> Deliver {
      if (state.training) trainer_of(state).optimizer().zero_gradients();
      return nothing();
    });
  });
}

Napi::Value ModelHandle::shard_optimizer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<RankGroup> group = GroupHandle::of(info[0]);
    if (!group) throw bad_argument("group", "a Group");
    return submit(info, [group](ModelState& state, const std::atomic<bool>&) -> Deliver {
      trainer_of(state).optimizer().shard(group);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::save_optimizer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [path = string_of(info[0], "path")](ModelState& state, const std::atomic<bool>&) -> Deliver {
      trainer_of(state).optimizer().save(path);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::load_optimizer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [path = string_of(info[0], "path")](ModelState& state, const std::atomic<bool>&) -> Deliver {
      trainer_of(state).optimizer().load(path);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::clone_into(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    ModelHandle* target = Unwrap(object_at(info[0], "target"));
    auto keep = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[0].As<Napi::Object>()));
    const std::optional<ScoreInit> head = score_init(info[1]);
    return submit(info, [target, keep, head, vocab = vocab_](ModelState& state, const std::atomic<bool>&) -> Deliver {
      auto copy = head ? state.model->clone_with_scalar_head(*head) : state.model->clone();
      // On the event loop, where `target` is used; nothing has been queued on it yet.
      return [target, keep, copy, vocab](Napi::Env env) {
        target->state_->model = copy;
        target->vocab_ = vocab;
        target->report_memory(env, copy->parameter_bytes());
        keep->Reset();
        return env.Undefined();
      };
    });
  });
}

}  // namespace fg
