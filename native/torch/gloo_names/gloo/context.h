#pragma once
// The names of Gloo that torch's ProcessGroupGloo.hpp mentions. libtorch contains Gloo, but its package has not got
// Gloo's headers; only pointers to these classes are handled here, and nothing of theirs is called or made.
#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
}  // namespace gloo
