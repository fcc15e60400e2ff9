#pragma once
// Finds stop strings in a stream of token bytes.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fg {

class StopMatcher {
 public:
  explicit StopMatcher(const std::vector<std::string>& stop) : stop_(&stop) {
    for (const std::string& s : stop) longest_ = std::max(longest_, s.size());
  }
  /// Adds a token's bytes. Returns the byte, counted from the first one added, at which the earliest completed stop
  /// string begins, or -1.
  int64_t add(std::string_view bytes) {
    tail_ += bytes;
    size_t found = std::string::npos;
    for (const std::string& s : *stop_) found = std::min(found, tail_.find(s));
    if (found != std::string::npos) return dropped_ + static_cast<int64_t>(found);
    if (tail_.size() >= longest_ &&
        longest_ > 0) {  // only the last longest - 1 bytes can begin a match with later ones
      const size_t drop = tail_.size() - (longest_ - 1);
      tail_.erase(0, drop);
      dropped_ += static_cast<int64_t>(drop);
    }
    return -1;
  }

 private:
  const std::vector<std::string>* stop_;
  std::string tail_;
  size_t longest_ = 0;
  int64_t dropped_ = 0;
};

}  // namespace fg
