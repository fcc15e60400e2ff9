// Values of models with a scalar head, and the gradients of what they are trained with.
#include "addon/engine/model_training.h"
#include "torch/scalar_head.h"

namespace fg {
namespace {

constexpr const char* kFloats = "a Float32Array";

PairBatch pairs_of(const Napi::Object& o, int64_t vocab) {
  PairBatch b;
  TokenLists lists = token_lists(o, "batch", vocab);
  b.tokens = std::move(lists.tokens), b.offsets = std::move(lists.offsets);
  b.margins = optional<float>(o, "margins", napi_float32_array, kFloats);
  expect(b.offsets.size() % 2 == 1, "two sequences per pair");
  for (size_t i = 0; i + 1 < b.offsets.size(); ++i)
    expect(b.offsets[i] < b.offsets[i + 1], "at least one token in every sequence");
  expect(b.margins.empty() || static_cast<int64_t>(b.margins.size()) == b.pairs(), "one margin per pair");
  return b;
}

ValueBatch values_of(const Napi::Object& o, int64_t vocab) {
  ValueBatch b;
  TokenLists lists = token_lists(o, "batch", vocab);
  b.tokens = std::move(lists.tokens), b.offsets = std::move(lists.offsets);
  b.prompt_lengths = int32s_at(o, "promptLengths");
  b.returns = copy_typed<float>(o.Get("returns"), "returns", napi_float32_array, kFloats);
  b.old_values = optional<float>(o, "oldValues", napi_float32_array, kFloats);
  b.mask = optional<uint8_t>(o, "mask", napi_uint8_array, "a Uint8Array");
  expect(b.offsets.size() == b.prompt_lengths.size() + 1, "offsets (B + 1)");
  int64_t tokens = 0;
  for (size_t s = 0; s < b.prompt_lengths.size(); ++s) {
    const int64_t length = b.offsets[s + 1] - b.offsets[s];
    expect(b.prompt_lengths[s] >= 1 && b.prompt_lengths[s] <= length, "promptLengths from 1 to the sequence's length");
    tokens += length - b.prompt_lengths[s];
  }
  const auto fits = [&](size_t size) { return static_cast<int64_t>(size) == tokens; };
  expect(fits(b.returns.size()), "one return per completion token");
  expect(b.old_values.empty() || fits(b.old_values.size()), "one old value per completion token");
  expect(b.mask.empty() || fits(b.mask.size()), "one mask entry per completion token");
  return b;
}

void set(Napi::Object o, const char* key, double value) { o.Set(key, Napi::Number::New(o.Env(), value)); }

Napi::Value to_js(Napi::Env env, const PairResult& r) {
  auto out = Napi::Object::New(env);
  const double pairs = static_cast<double>(std::max<int64_t>(1, r.totals.count));
  set(out, "loss", r.totals.loss);
  set(out, "pairs", static_cast<double>(r.totals.count));
  set(out, "accuracy", static_cast<double>(r.totals.ranked) / pairs);
  set(out, "margin", r.totals.margin / pairs);
  out.Set("chosen", to_typed<Napi::Float32Array>(env, r.chosen));
  out.Set("rejected", to_typed<Napi::Float32Array>(env, r.rejected));
  return out;
}

Napi::Value to_js(Napi::Env env, const ValueResult& r) {
  auto out = Napi::Object::New(env);
  const double n = static_cast<double>(std::max<int64_t>(1, r.totals.count));
  set(out, "loss", r.totals.loss);
  set(out, "tokens", static_cast<double>(r.totals.count));
  set(out, "clipFraction", static_cast<double>(r.totals.clipped) / n);
  set(out, "meanValue", r.value / n);
  set(out, "meanReturn", r.target / n);
  set(out, "meanError", r.error / n);
  set(out, "meanSquaredError", r.error_square / n);
  const double variance = r.target_square / n - r.target / n * (r.target / n);
  set(out, "returnVariance", std::max(0.0, variance));
  out.Set("values", to_typed<Napi::Float32Array>(env, r.values));
  return out;
}

}  // namespace

Napi::Value ModelHandle::values(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const TokenLists prompts = token_lists(info[0], "prompts", vocab_),
                     completions = token_lists(info[1], "completions", vocab_);
    const Napi::Object o = object_at(info[2], "options");
    const std::string where = string_at(o, "positions");
    const int64_t budget = integer_at(o, "tokenBudget");
    expect(prompts.count() == completions.count(), "as many completions as prompts");
    expect(where == "last" || where == "completion", "positions 'last' or 'completion'");
    for (int64_t i = 0; i < prompts.count(); ++i) expect(prompts.length(i) > 0, "at least one token in every prompt");
    const auto positions = where == "last" ? ValuePositions::last : ValuePositions::completion;
    return submit(info, [=](ModelState& state, const std::atomic<bool>& abort) {
      std::vector<Sequence> all;
      for (int64_t i = 0; i < prompts.count(); ++i)
        all.push_back({prompts.begin(i), prompts.length(i), completions.begin(i), completions.length(i)});
      const std::vector<float> values = score_values(*state.model, std::move(all), positions, budget, abort);
      return [values](Napi::Env env) -> Napi::Value { return to_typed<Napi::Float32Array>(env, values); };
    });
  });
}

Napi::Value ModelHandle::accumulate_pairs(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto batch = std::make_shared<PairBatch>(pairs_of(object_at(info[0], "batch"), vocab_));
    const Napi::Object o = object_at(info[1], "options");
    const PairOptions options{number_at(o, "centerRewardsCoefficient"), number_at(o, "normalizer"),
                              integer_at(o, "microBatchTokens")};
    expect(options.normalizer > 0 && options.micro_batch_tokens >= 0,
           "a positive normalizer, and microBatchTokens of at least 0");
    return submit(info,
                  [batch, options, group = group_of(o)](ModelState& state, const std::atomic<bool>& abort) -> Deliver {
                    trainer_of(state).sum_over(group);
                    const PairResult result = trainer_of(state).accumulate_pairs(*batch, options, abort);
                    return [result](Napi::Env env) { return to_js(env, result); };
                  });
  });
}

Napi::Value ModelHandle::accumulate_values(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto batch = std::make_shared<ValueBatch>(values_of(object_at(info[0], "batch"), vocab_));
    const Napi::Object o = object_at(info[1], "options");
    const ValueOptions options{number_at(o, "cliprangeValue"), number_at(o, "normalizer"),
                               integer_at(o, "microBatchTokens")};
    expect(options.normalizer > 0 && options.micro_batch_tokens >= 0 && options.clip >= 0,
           "a positive normalizer, and microBatchTokens and a cliprangeValue of at least 0");
    expect(!(options.clip < kUnbounded) || batch->old_values.size() == batch->returns.size(),
           "oldValues when cliprangeValue is finite");
    return submit(info,
                  [batch, options, group = group_of(o)](ModelState& state, const std::atomic<bool>& abort) -> Deliver {
                    trainer_of(state).sum_over(group);
                    const ValueResult result = trainer_of(state).accumulate_values(*batch, options, abort);
                    return [result](Napi::Env env) { return to_js(env, result); };
                  });
  });
}

}  // namespace fg
