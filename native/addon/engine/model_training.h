#pragma once
// What the calls of training share: model_train.cc (language models), model_scalar.cc (scalar heads).
#include "addon/engine/group.h"
#include "addon/engine/model_handle.h"
#include "torch/training.h"

namespace fg {

struct ModelTraining : TrainingState {
  explicit ModelTraining(std::shared_ptr<Transformer> model) : trainer(std::move(model)) {}
  Trainer trainer;
};

/// Created at the first use: a model that only samples pays nothing.
inline Trainer& trainer_of(ModelState& state) {
  if (!state.training) state.training = std::make_unique<ModelTraining>(state.model);
  return static_cast<ModelTraining&>(*state.training).trainer;
}

/// Of a call's options: `group`, the ranks whose gradients are added up, or none.
inline std::shared_ptr<RankGroup> group_of(const Napi::Object& o) { return GroupHandle::of(o.Get("group")); }

template <class T>
std::vector<T> optional(const Napi::Object& o, const char* key, napi_typedarray_type type, const char* what) {
  const Napi::Value v = o.Get(key);
  return v.IsUndefined() || v.IsNull() ? std::vector<T>() : copy_typed<T>(v, key, type, what);
}

inline void expect(bool ok, const char* what) {
  if (!ok) throw UserError(UserError::Kind::range, "ERR_INVALID_ARG", std::string("Expected ") + what);
}

inline Deliver nothing() {
  return [](Napi::Env env) { return env.Undefined(); };
}

}  // namespace fg
