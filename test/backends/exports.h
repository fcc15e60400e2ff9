#pragma once
// How files of a test addon add functions to it: a file-level `const Exports unique([](Napi::Env, Napi::Object)
// {...})`.
#include <vector>

#include "addon/common/napi_min.h"
#include "backends/device.h"
#include "kernels/cuda/launch.h"

namespace fg::backend {

struct Exports {
  using Fill = void (*)(Napi::Env, Napi::Object);
  explicit Exports(Fill fill) { all().push_back(fill); }
  static std::vector<Fill>& all() {
    static std::vector<Fill> list;
    return list;
  }
};

/// guarded(), with a Violation as an error that has the violation's name.
template <class Fn>
auto on_device(Napi::Env env, Fn&& fn) -> decltype(fn()) {
  return guarded(env, [&] {
    try {
      return fn();
    } catch (const Violation& v) {
      Napi::Error error = to_js(env, UserError(UserError::Kind::error, kViolationCode, v.what()));
      error.Set("violation", Napi::String::New(env, v.name));
      throw error;
    }
  });
}

inline void check(const cuda::Launch& l) {
  if (l.ok()) return;
  throw std::runtime_error(std::string("launch failed: ") + (l.what ? l.what : "?") + " (" + (l.file ? l.file : "?") +
                           ":" + std::to_string(l.line) + "): " + error_text(l.code));
}

}  // namespace fg::backend
