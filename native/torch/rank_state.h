#pragma once
// The inside of a RankGroup: who is there, what is under way, and what becomes of it when somebody is lost.
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "torch/error.h"
#include "torch/gpu_exchange.h"
#include "torch/rank_group.h"
#include "torch/rank_network.h"
#include "torch/rank_store.h"
#include "torch/rank_watch.h"

namespace fg {

struct RankGroup::State {
  using Milliseconds = std::chrono::milliseconds;
  using Clock = std::chrono::steady_clock;
  static constexpr Milliseconds kSlice{200};  // of waiting, between looks at the others

  RankGroupOptions options;
  std::unique_ptr<RankStore> store;
  std::unique_ptr<RankWatch> watch;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  std::unique_ptr<GpuExchange> gpu;  // from the first exchange of a GPU's numbers on
  bool gpu_queued = false;
  int64_t meetings = 0;
  std::string broken;  // why nothing works any more
  bool left = false;
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, std::vector<at::Tensor>>> works;
  Statistics statistics;

  /// Whoever has not found out yet need not wait.
  [[noreturn]] void lose(const std::string& message) {
    broken = message;
    if (gpu) gpu->abort();
    watch->tell(message);
    throw CodedError("ERR_RANK_LOST", message);
  }

  [[noreturn]] void blame(const std::string& said) {
    const std::string why = watch->blame(meetings + 1);  // nobody is there yet
    lose(why.empty() ? "The exchange between the ranks failed" + watch->when() + ": " + said +
                           ". All ranks are there: have all made the same calls (evaluate() on each, too)?"
                     : why);
  }

  void usable() const {
    if (!broken.empty()) throw CodedError("ERR_RANK_LOST", broken);
    if (left) throw CodedError("ERR_DISPOSED", "This group was left");
  }

  /// What an exchange throws becomes the rank that is missing, or its words.
  template <class Fn>
  auto told(Fn fn) {
    try {
      return fn();
    } catch (const CodedError& e) {
      if (e.code == "ERR_RANK_LOST" && broken.empty()) lose(e.what() + watch->when());
      throw;
    } catch (const std::exception& e) {
      blame(exchange_words(e));
    }
  }

  Milliseconds slice() const { return std::min(kSlice, watch->interval()); }

  /// Until `there` says so; looks at the others now and then. What is there at last has not gone wrong, whatever the
  /// others do next.
  template <class Fn>
  void wait_for(int64_t meeting, const std::atomic<bool>& abort, Fn there) {
    watch->renew();
    for (auto next = Clock::now() + slice(); !there();) {
      if (abort) throw CodedError("ERR_ABORTED", "The operation was aborted");
      if (Clock::now() < next) continue;
      if (const std::string why = watch->trouble(meeting); !why.empty()) {
        if (there()) return;
        lose(why);
      }
      next = Clock::now() + slice();
    }
  }

  void begin(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> keep) {
    for (const at::Tensor& t : keep) statistics.bytes += static_cast<int64_t>(t.nbytes());
    works.emplace_back(std::move(work), std::move(keep));
  }

  bool by_nccl(const at::Tensor& t) const { return !t.is_cpu() || options.nccl_only; }

  /// fn(exchange) where the tensors are NCCL's; false, and nothing done, where they are Gloo's.
  template <class Fn>
  bool begin_on_gpu(const std::vector<at::Tensor>& keep, Fn fn) {
    if (keep.empty() || !by_nccl(keep[0])) return false;
    nccl_told([&] {
      if (!gpu) gpu = join_gpus(keep[0].device());
      fn(*gpu);
    });
    gpu_queued = true;
    begin(nullptr, keep);
    return true;
  }

  /// What goes wrong here ends the group: what is queued on the other ranks waits for this one.
  template <class Fn>
  void nccl_told(Fn fn) {
    told([&] {
      try {
        fn();
      } catch (const CodedError& e) {
        if (e.code == "ERR_RANK_LOST" || e.code == "ERR_ABORTED") throw;
        broken = e.what();
        watch->tell(broken);
        if (gpu) gpu->abort();
        throw;
      }
    });
  }

  std::unique_ptr<GpuExchange> join_gpus(c10::Device device) {
    NcclPlace place;
    place.rank = options.rank;
    place.world_size = options.world_size;
    place.from_first = [this](const std::string& mine) {
      if (options.rank == 0) return store->set("nccl", mine), mine;
      while (!store->wait("nccl", slice())) look();
      return store->get("nccl");
    };
    place.look = [this] { look(); };
    return std::make_unique<GpuExchange>(place, device);
  }

  /// At most once in a slice: throws where somebody who is waited for is gone.
  void look() {
    if (Clock::now() < next_look) return;
    next_look = Clock::now() + slice();
    if (const std::string why = watch->trouble(meetings + 1); !why.empty()) lose(why);
  }
  Clock::time_point next_look{};

  /// Who holds the store leaves last: the others read there why it ends.
  void leave() noexcept {
    if (left) return;
    left = true;
    try {
      if (!options.serve) store->add(RankWatch::kLeft, 1);
      const Milliseconds patience =
          broken.empty() ? Milliseconds(5000) : std::min(Milliseconds(2000), 2 * watch->interval() + kSlice);
      const auto end = Clock::now() + std::min(options.timeout, patience);
      const int others = options.world_size - 1 - watch->missing();
      while (options.serve && store->add(RankWatch::kLeft, 0) < others && Clock::now() < end)
        std::this_thread::sleep_for(Milliseconds(10));
    } catch (...) {
    }
    watch->stop();
    gpu.reset();
    gloo.reset();
  }

  /// Before the first meeting ends: ranks that count differently would wait for somebody who does not exist.
  void check_sizes() {
    for (int r = 0; r < options.world_size; ++r) {
      const std::string size = r == options.rank ? "" : store->get("world/" + std::to_string(r));
      if (size.empty() || size == std::to_string(options.world_size)) continue;
      const int first = std::min(r, options.rank);
      const std::string mine = std::to_string(options.world_size);
      broken = "WORLD_SIZE is " + (r == first ? size : mine) + " on rank " + std::to_string(first) + ", but " +
               (r == first ? mine : size) + " on rank " + std::to_string(std::max(r, options.rank));
      watch->tell(broken);
      throw CodedError("ERR_RANKS_DIFFER", broken);
    }
  }

  void join(const std::atomic<bool>& abort);
  void meet(const std::atomic<bool>& abort);
};

}  // namespace fg
