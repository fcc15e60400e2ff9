#pragma once
// A TCPStore whose answers are waited for at most so long: its own calls may block for ever when the network is cut.
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <c10/util/intrusive_ptr.h>

namespace c10d {
class Store;
}

namespace fg {

struct StoreOptions {
  std::string host;
  int port = 0;
  bool serve = false;
  std::string prefix;
  std::chrono::milliseconds timeout{0};
};

/// Throws CodedError ERR_RANK_LOST in the user's words where the store cannot be made or reached, or does not answer
/// within the timeout. Calls may come from several threads; they run one after the other.
class RankStore {
 public:
  /// ERR_ABORTED when `abort` is set meanwhile.
  RankStore(const StoreOptions& options, const std::atomic<bool>& abort);
  ~RankStore();
  RankStore(const RankStore&) = delete;
  RankStore& operator=(const RankStore&) = delete;

  void set(const std::string& key, const std::string& value);
  /// Empty where there is no such key.
  std::string get(const std::string& key);
  int64_t add(const std::string& key, int64_t value);
  void remove(const std::string& key);
  /// Whether the key is there by then.
  bool wait(const std::string& key, std::chrono::milliseconds at_most);
  /// Another connection to the same store.
  std::unique_ptr<RankStore> again() const;
  c10::intrusive_ptr<c10d::Store> store() const;

 private:
  struct Line;
  explicit RankStore(std::shared_ptr<Line> line);
  std::shared_ptr<Line> line_;
};

}  // namespace fg
