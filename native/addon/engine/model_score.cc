// Log-probs of given completions.
#include "addon/engine/model_handle.h"
#include "torch/score.h"

namespace fg {

Napi::Value ModelHandle::logits(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(
        info, [lists = token_lists(info[0], "sequences", vocab_)](ModelState& state, const std::atomic<bool>&) {
          at::NoGradGuard no_grad;
          const at::Tensor ids = at::tensor(lists.tokens, at::kLong);
          const at::Tensor z =
              state.model->logits(state.model->hidden(ids, whole_sequences(lists.offsets))).to(at::kFloat).contiguous();
          return [z](Napi::Env env) -> Napi::Value {
            auto out = Napi::Float32Array::New(env, static_cast<size_t>(z.numel()));
            std::copy_n(z.const_data_ptr<float>(), z.numel(), out.Data());
            return out;
          };
        });
  });
}

Napi::Value ModelHandle::gradients(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info,
                  [lists = token_lists(info[0], "sequences", vocab_)](ModelState& state, const std::atomic<bool>&) {
                    Transformer& model = *state.model;
                    std::vector<at::Tensor> trained;  // as it was before, and is afterwards
                    for (const auto& leaves : {model.parameters(), model.adapters()})
                      for (const auto& [name, leaf] : leaves)
                        if (leaf.requires_grad()) trained.push_back(leaf);
                    model.set_trainable(true);
                    const NllGradients result = nll_gradients(model, lists.tokens, lists.offsets);
                    model.set_trainable(false);
                    for (at::Tensor& leaf : trained) leaf.set_requires_grad(true);
                    return [result](Napi::Env env) -> Napi::Value {
                      auto out = Napi::Object::New(env), grads = Napi::Object::New(env);
                      for (const auto& [name, grad] : result.gradients) {
                        auto data = Napi::Float32Array::New(env, static_cast<size_t>(grad.numel()));
                        std::copy_n(grad.const_data_ptr<float>(), grad.numel(), data.Data());
                        grads.Set(name, data);
                      }
                      out.Set("loss", result.loss);
                      out.Set("gradients", grads);
                      return out;
                    };
                  });
  });
}

Napi::Value ModelHandle::score(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const TokenLists prompts = token_lists(info[0], "prompts", vocab_),
                     completions = token_lists(info[1], "completions", vocab_);
    const Napi::Object o = object_at(info[2], "options");
    const ScoreOptions options{number_at(o, "temperature"), bool_at(o, "entropy"), integer_at(o, "tokenBudget")};
    const bool adapter = bool_at(o, "adapter", true);
    if (prompts.count() != completions.count()) throw bad_argument("completions", "as many completions as prompts");
    return submit(info, [=](ModelState& state, const std::atomic<bool>& abort) {
      const std::vector<Sequence> inputs = [&] {
        std::vector<Sequence> all;
        for (int64_t i = 0; i < prompts.count(); ++i)
          all.push_back({prompts.begin(i), prompts.length(i), completions.begin(i), completions.length(i)});
        return all;
      }();
      const AdapterScope scope(*state.model, adapter);
      const ScoreResult result = score_completions(*state.model, inputs, options, abort);
      return [result](Napi::Env env) -> Napi::Value {
        auto out = Napi::Object::New(env);
        out.Set("logps", to_typed<Napi::Float32Array>(env, result.logps));
        if (!result.entropies.empty()) out.Set("entropies", to_typed<Napi::Float32Array>(env, result.entropies));
        return out;
      };
    });
  });
}

}  // namespace fg
