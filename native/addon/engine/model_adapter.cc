// What of a model is trained: chosen parameters, or LoRA adapters; loading, saving and merging those.
#include "addon/engine/model_training.h"

namespace fg {
namespace {

/// Optimizer and gradients belong to what was trained before.
void forget_training(ModelState& state) {
  state.training.reset();
  state.model->set_trainable(false);
}

}  // namespace

Napi::Value ModelHandle::describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) {
      std::vector<std::string> names;
      for (const auto& [name, tensor] : state.model->parameters()) names.push_back(name);
      return [names, modules = state.model->linear_modules()](Napi::Env env) -> Napi::Value {
        const auto list = [&](const std::vector<std::string>& from) {
          auto array = Napi::Array::New(env, from.size());
          for (uint32_t i = 0; i < from.size(); ++i) array.Set(i, from[i]);
          return array;
        };
        auto out = Napi::Object::New(env);
        out.Set("parameters", list(names));
        out.Set("modules", list(modules));
        return out;
      };
    });
  });
}

Napi::Value ModelHandle::choose_trained(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "options");
    return submit(info, [names = strings_at(o.Get("names"), "names"), recompute = bool_at(o, "recompute")](
                            ModelState& state, const std::atomic<bool>&) {
      forget_training(state);
      state.model->choose_trained(names, recompute);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::add_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[0], "options");
    return submit(info, [modules = strings_at(o.Get("modules"), "modules"), rank = integer_at(o, "rank"),
                         scale = number_at(o, "scale"),
                         seed = integer_at(o, "seed")](ModelState& state, const std::atomic<bool>&) {
      state.model->add_adapters(modules, rank, scale, static_cast<uint64_t>(seed));
      forget_training(state);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::load_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = object_at(info[1], "options");
    return submit(info, [file = string_of(info[0], "file"), rank = integer_at(o, "rank"),
                         scale = number_at(o, "scale")](ModelState& state, const std::atomic<bool>&) {
      state.model->load_adapters(file, rank, scale);
      forget_training(state);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::save_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [file = string_of(info[0], "file")](ModelState& state, const std::atomic<bool>&) {
      state.model->save_adapters(file);
      return nothing();
    });
  });
}

Napi::Value ModelHandle::merge_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](ModelState& state, const std::atomic<bool>&) {
      forget_training(state);  // before the leaves that it holds are gone
      state.model->merge_adapters();
      return nothing();
    });
  });
}

Napi::Value ModelHandle::adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info,
                  [](ModelState& state, const std::atomic<bool>&) { return deliver_tensors(state.model->adapters()); });
  });
}

}  // namespace fg
