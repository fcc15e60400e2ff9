#pragma once
// Errors of the torch layer that a caller may tell apart; the addon turns them into JavaScript errors with the same
// `code`.
#include <stdexcept>
#include <string>

namespace fg {

struct CodedError : std::runtime_error {
  std::string code;
  CodedError(std::string c, const std::string& message) : std::runtime_error(message), code(std::move(c)) {}
};

inline CodedError model_error(const std::string& message) { return {"ERR_MODEL", message}; }
inline CodedError io_error(const std::string& message) { return {"ERR_IO", message}; }

}  // namespace fg
