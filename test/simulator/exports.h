#pragma once
// How files of the test addon add functions to it: a file-level `const Exports unique([](Napi::Env, Napi::Object)
// {...})`.
#include <vector>

#include "addon/common/napi_min.h"
#include "simulator/sim.h"

namespace fg::sim {

struct Exports {
  using Fill = void (*)(Napi::Env, Napi::Object);
  explicit Exports(Fill fill) { all().push_back(fill); }
  static std::vector<Fill>& all() {
    static std::vector<Fill> list;
    return list;
  }
};

/// guarded(), with a Violation as an error of code ERR_SIMULATION that has the violation's name.
template <class Fn>
auto simulated(Napi::Env env, Fn&& fn) -> decltype(fn()) {
  return guarded(env, [&] {
    try {
      return fn();
    } catch (const Violation& v) {
      Napi::Error error = to_js(env, UserError(UserError::Kind::error, "ERR_SIMULATION", v.what()));
      error.Set("violation", Napi::String::New(env, v.name));
      throw error;
    }
  });
}

}  // namespace fg::sim
