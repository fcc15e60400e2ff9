// Sampling.
#include "addon/engine/model_handle.h"
#include "torch/generate.h"

namespace fg {

namespace {

GenerateOptions read_options(const Napi::Object& o, int64_t vocab) {
  GenerateOptions options;
  SampleParams& s = options.sampling;
  s.temperature = static_cast<float>(number_at(o, "temperature"));
  s.top_k = integer_at(o, "topK");
  s.top_p = static_cast<float>(number_at(o, "topP"));
  s.min_p = static_cast<float>(number_at(o, "minP"));
  s.repetition_penalty = static_cast<float>(number_at(o, "repetitionPenalty"));
  s.seed = static_cast<uint64_t>(integer_at(o, "seed"));
  s.step = static_cast<uint32_t>(integer_at(o, "step"));
  options.completions = integer_at(o, "numGenerations");
  options.max_new_tokens = integer_at(o, "maxNewTokens");
  options.prompt_offset = static_cast<uint32_t>(integer_at(o, "promptOffset"));
  options.eos = int32s_at(o, "eosTokenIds");
  options.stop = strings_at(o.Get("stop"), "stop");
  if (!(s.temperature >= 0) || !(s.top_p > 0) || !(s.min_p >= 0 && s.min_p <= 1) || !(s.repetition_penalty > 0) ||
      options.completions < 1 || options.max_new_tokens < 1)
    throw bad_argument("options", "values in their ranges");
  for (const std::string& stop : options.stop)
    if (stop.empty()) throw bad_argument("stop", "strings that are not empty");
  return options;
}

/// The bytes of every token: { bytes: Uint8Array, offsets: Int32Array (vocab + 1) }. Ids beyond the table have no
/// bytes.
std::vector<std::string> read_token_bytes(const Napi::Value& value, int64_t vocab) {
  const Napi::Object o = object_at(value, "tokenBytes");
  const std::vector<uint8_t> bytes =
      copy_typed<uint8_t>(o.Get("bytes"), "tokenBytes.bytes", napi_uint8_array, "a Uint8Array");
  const std::vector<int32_t> offsets = int32s_at(o, "offsets");
  std::vector<std::string> table(static_cast<size_t>(vocab));
  for (size_t i = 0; i + 1 < offsets.size() && i < table.size(); ++i) {
    if (offsets[i] < 0 || offsets[i + 1] < offsets[i] || static_cast<size_t>(offsets[i + 1]) > bytes.size())
      throw bad_argument("tokenBytes", "offsets inside the bytes");
    table[i].assign(bytes.begin() + offsets[i], bytes.begin() + offsets[i + 1]);
  }
  return table;
}

Napi::Value to_js(Napi::Env env, const std::vector<Completion>& completions) {
  auto out = Napi::Array::New(env, completions.size());
  for (uint32_t i = 0; i < completions.size(); ++i) {
    const Napi::HandleScope scope(env);
    const Completion& c = completions[i];
    auto entry = Napi::Object::New(env);
    entry.Set("tokens", to_typed<Napi::Int32Array>(env, c.tokens));
    entry.Set("logps", to_typed<Napi::Float32Array>(env, c.logps));
    entry.Set("stopped", c.stopped);
    entry.Set("stopAt", static_cast<double>(c.stop_at));
    out.Set(i, entry);
  }
  return out;
}

}  // namespace

Napi::Value ModelHandle::set_token_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    token_bytes_ = std::make_shared<const std::vector<std::string>>(read_token_bytes(info[0], vocab_));
    return info.Env().Undefined();
  });
}

Napi::Value ModelHandle::generate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const TokenLists lists = token_lists(info[0], "prompts", vocab_);
    GenerateOptions options = read_options(object_at(info[1], "options"), vocab_);
    if (!options.stop.empty() && !token_bytes_)
      throw UserError(UserError::Kind::error, "ERR_TOKENIZER", "stop strings need a tokenizer");
    const bool adapter = bool_at(info[1].As<Napi::Object>(), "adapter", true);
    std::vector<std::vector<int32_t>> prompts;
    for (int64_t i = 0; i < lists.count(); ++i) prompts.emplace_back(lists.begin(i), lists.begin(i) + lists.length(i));
    return submit(info, [prompts = std::move(prompts), options, adapter, table = token_bytes_](
                            ModelState& state, const std::atomic<bool>& abort) mutable {
      options.token_bytes = table.get();
      const AdapterScope scope(*state.model, adapter);
      std::vector<Completion> completions = fg::generate(*state.model, prompts, options, abort);
      return [completions](Napi::Env env) { return to_js(env, completions); };
    });
  });
}

}  // namespace fg
