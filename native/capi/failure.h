#pragma once
// What is wrong with a call, and how it leaves the library: nothing is thrown across the boundary.
#include <cstdint>
#include <string>

#include "capi/fused_grpo.h"

namespace fg::capi {

/// Which element of which argument; -1: none.
struct Place {
  std::string argument;
  int64_t index = -1, sequence = -1, token = -1;

  /// "old_logps[5] (sequence 1, token 2)"
  std::string text() const;
};

struct Failure {
  fg_status status;
  Place place;
  std::string message;
};

std::string number_text(double v);

/// "Expected <what> for <place> but received <received>"
[[noreturn]] void refuse(fg_status status, const Place& place, const std::string& what, const std::string& received);
[[noreturn]] void invalid(const Place& place, const std::string& what, const std::string& received);
[[noreturn]] void not_finite(const Place& place, double value);
[[noreturn]] void incompatible(const std::string& message);

using Work = void (*)(void* state);
/// Runs `work` and turns what it throws into a status and the error's text.
fg_status run_guarded(fg_error* error, Work work, void* state) noexcept;

template <class Fn>
fg_status guarded(fg_error* error, Fn&& fn) noexcept {
  return run_guarded(
      error, [](void* state) { (*static_cast<Fn*>(state))(); }, const_cast<void*>(static_cast<const void*>(&fn)));
}

}  // namespace fg::capi
