#pragma once
// What the ranks of a group show of themselves in its store: that they are alive, how far they are, and why they end.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "torch/rank_store.h"

namespace fg {

class RankWatch {
 public:
  using Milliseconds = std::chrono::milliseconds;
  /// The key that counts the ranks that have left.
  static constexpr const char* kLeft = "left";
  /// Begins to show that this rank is alive, by a thread of its own. `timeout`: a silence that long is an end.
  RankWatch(RankStore& store, int rank, int world_size, Milliseconds timeout);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  /// This rank has come to a meeting; its optimizer step.
  void arrive(int64_t meeting);
  void set_step(int64_t step);
  /// " (step 4)": of this rank.
  std::string when();
  /// Between two signs of life.
  Milliseconds interval() const;

  /// Silences count from now on.
  void renew();
  /// Why the others cannot all come to the meeting: one has said why it ended, or has been silent for the timeout.
  /// Empty where neither is so.
  std::string trouble(int64_t meeting) { return trouble(meeting, timeout_, false); }
  /// The same after an exchange has failed: waits, shorter than the timeout, until somebody says so or falls silent.
  std::string blame(int64_t meeting);
  /// Those that trouble() last found alive and not yet there, e.g. "rank 1 (step 3), rank 2 (step 4)"; from any thread.
  std::string awaited();
  /// Ranks that trouble() has found silent.
  int missing() const { return missing_; }

  /// Tells the others why this rank ends. Never throws.
  void tell(const std::string& why) noexcept;
  /// The same from any thread when the process ends: takes at most half a second.
  void last_words(const std::string& why);
  void stop();

 private:
  /// "count arrived step": how often a rank has beaten, the last meeting it came to, and its optimizer step.
  struct Beat {
    int64_t count = 0, arrived = -1, step = 0;
    std::string text() const;
    static Beat of(const std::string& text);
  };
  /// What a rank has shown of itself, and when it last changed.
  struct Seen {
    Beat beat;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  };

  void beat(RankStore& line);
  std::string trouble(int64_t meeting, Milliseconds limit, bool failed);
  std::string silence(const std::vector<int>& silent, Milliseconds limit, bool failed);

  RankStore& store_;
  const int rank_;
  const Milliseconds timeout_;
  std::vector<Seen> seen_;
  int missing_ = 0;

  std::mutex mutex_;  // of what other threads read
  std::condition_variable wake_, said_;
  Beat mine_;
  std::string words_, awaited_;
  bool stop_ = false, gone_ = false;
  std::thread beating_;
};

}  // namespace fg
