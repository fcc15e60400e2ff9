#pragma once
// Node-API, and how C++ errors become JavaScript errors with a stable `code`.
#include <napi.h>

#include <new>
#include <stdexcept>
#include <string>

namespace fg {

/// A user's mistake found in native code: becomes a TypeError/RangeError/Error with `code`, the message unchanged.
struct UserError : std::runtime_error {
  enum class Kind { error, type, range };
  Kind kind;
  std::string code;
  UserError(Kind k, std::string c, const std::string& message)
      : std::runtime_error(message), kind(k), code(std::move(c)) {}
};

inline Napi::Error to_js(Napi::Env env, const UserError& e) {
  Napi::Error error = e.kind == UserError::Kind::type    ? Napi::TypeError::New(env, e.what())
                      : e.kind == UserError::Kind::range ? Napi::RangeError::New(env, e.what())
                                                         : Napi::Error::New(env, e.what());
  error.Set("code", Napi::String::New(env, e.code));
  return error;
}

/// Runs `fn()` and turns C++ exceptions into JavaScript ones; Napi's own errors pass through.
template <class Fn>
auto guarded(Napi::Env env, Fn&& fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const Napi::Error&) {
    throw;
  } catch (const UserError& e) {
    throw to_js(env, e);
  } catch (const std::bad_alloc&) {
    throw to_js(env, UserError(UserError::Kind::range, "ERR_OUT_OF_MEMORY",
                               "There is not enough memory for the arrays of this call"));
  } catch (const std::exception& e) {
    throw Napi::Error::New(env, e.what());
  }
}

}  // namespace fg
