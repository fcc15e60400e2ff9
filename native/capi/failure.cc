#include "capi/failure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

#include "capi/structs.h"

namespace fg::capi {
namespace {

/// Ends with a 0 whatever the length; the rest of the array is 0, too.
template <size_t size>
void copy_text(char (&to)[size], std::string_view from) {
  std::memset(to, 0, size);
  std::memcpy(to, from.data(), std::min(from.size(), size - 1));
}

/// Without allocation: the reason may be that there is no memory.
fg_status report(fg_error* error, fg_status status, std::string_view message, const Place* place) noexcept {
  if (!error) return status;
  error->status = status, error->reserved = 0;
  error->index = place ? place->index : -1;
  error->sequence = place ? place->sequence : -1;
  error->token = place ? place->token : -1;
  copy_text(error->argument, place ? std::string_view(place->argument) : std::string_view(""));
  copy_text(error->message, message);
  return status;
}

}  // namespace

std::string Place::text() const {
  std::string out = argument;
  if (index >= 0) out.append("[").append(std::to_string(index)).append("]");
  if (sequence >= 0)
    out.append(" (sequence ")
        .append(std::to_string(sequence))
        .append(", token ")
        .append(std::to_string(token))
        .append(")");
  return out;
}

std::string number_text(double v) {
  if (v != v) return "NaN";
  if (std::isinf(v)) return v > 0 ? "infinity" : "-infinity";
  if (v == FG_UNSET) return "FG_UNSET";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", v);
  return buffer;
}

void refuse(fg_status status, const Place& place, const std::string& what, const std::string& received) {
  throw Failure{status, place, "Expected " + what + " for " + place.text() + " but received " + received};
}

void invalid(const Place& place, const std::string& what, const std::string& received) {
  refuse(FG_INVALID_ARG, place, what, received);
}

void not_finite(const Place& place, double value) {
  refuse(FG_NON_FINITE, place, "a finite number", number_text(value));
}

void incompatible(const std::string& message) { throw Failure{FG_INCOMPATIBLE_OPTIONS, {}, message}; }

fg_status run_guarded(fg_error* error, Work work, void* state) noexcept {
  if (error && !usable_struct(error)) return FG_STRUCT_SIZE;
  try {
    work(state);
    return report(error, FG_OK, "", nullptr);
  } catch (const Failure& f) {
    return report(error, f.status, f.message, &f.place);
  } catch (const std::bad_alloc&) {
    return report(error, FG_OUT_OF_MEMORY, "There is not enough memory", nullptr);
  } catch (const std::exception& e) {
    return report(error, FG_INTERNAL, e.what(), nullptr);
  } catch (...) {
    return report(error, FG_INTERNAL, "An unknown exception", nullptr);
  }
}

}  // namespace fg::capi
