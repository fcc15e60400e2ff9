#pragma once
// The processes of a data parallel run, by torch's own c10d: a TCPStore to meet at, and Gloo to exchange numbers; those
// on a GPU by NCCL.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "torch/torch_min.h"

namespace fg {

struct RankGroupOptions {
  int rank = 0, world_size = 1;
  std::string host;  // of the store
  int port = 0;
  bool serve = false;  // this process holds the store
  std::string prefix;  // groups of other names, and other attempts at the same store, do not meet
  std::chrono::milliseconds timeout{120'000};
  bool nccl_only = false;  // for what lies on the CPU, too: tests, with a library that stands in for NCCL
};

/// Every member must make the same calls in the same order. Each call names the rank that is missing when one is:
/// CodedError ERR_RANK_LOST; after that the group cannot be used any more. ERR_ABORTED when `abort` was set.
class RankGroup {
 public:
  /// Returns when all ranks have come.
  RankGroup(const RankGroupOptions& options, const std::atomic<bool>& abort);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  int rank() const;
  int world_size() const;
  /// The optimizer step under way, for messages.
  void set_step(int64_t step);

  /// Waits for all ranks, however long they take, as long as their processes are alive: those that do not beat for
  /// `timeout` are missing. What follows a meeting may take at most `timeout`.
  void meet(const std::atomic<bool>& abort);
  /// The bytes of every rank, in their order.
  std::vector<std::string> gather(const std::string& bytes, const std::atomic<bool>& abort);
  /// The bytes of rank 0.
  std::string from_first(const std::string& bytes, const std::atomic<bool>& abort);

  /// What follows is begun in the same order on every rank, between a meeting and finish(); contiguous, in place, all
  /// of it on the CPU or on this rank's GPU. `sum`: of all ranks, the same bits on each. `sum_at`: on `owner` alone,
  /// the others' numbers are undefined afterwards. `share`: everyone gets the owner's.
  void begin_sum(std::vector<at::Tensor> numbers);
  void begin_sum_at(int owner, const at::Tensor& numbers);
  void begin_share(int owner, const at::Tensor& numbers);
  void finish(const std::atomic<bool>& abort);

  /// Who is alive and has not come to the meeting that this rank waits at; empty when it does not. From any thread.
  std::string awaited() const;

  /// Tells the others why this rank ends, so that they do not wait. Never throws.
  void fail(const std::string& message) noexcept;
  /// The same when the process ends, from any thread: takes at most a second.
  void last_words(const std::string& message);
  /// Nothing but statistics works afterwards. The destructor does it as well.
  void leave() noexcept;
  struct Statistics {
    int64_t bytes = 0;      // handed over for exchanges
    double waiting = 0;     // seconds in meetings, until the last rank came
    double exchanging = 0;  // seconds in finish(): what was not hidden behind other work
  };
  Statistics statistics() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace fg
