#include "torch/rank_group.h"

#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "torch/error.h"
#include "torch/host_address.h"
#include "torch/rank_store.h"
#include "torch/rank_watch.h"

namespace fg {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Device = std::shared_ptr<gloo::transport::Device>;

constexpr Milliseconds kSlice{200};  // of waiting, between looks at the others
constexpr auto kPoll = std::chrono::microseconds(100);

Device device_of(const std::string& interface) {
  try {
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  } catch (const std::exception&) {
    throw CodedError("ERR_INVALID_ARG",
                     "GLOO_SOCKET_IFNAME names '" + interface +
                         "', but this machine has no such network interface with an address; it has " + interfaces());
  }
}

/// The networks that GLOO_SOCKET_IFNAME names, or the one towards rank 0.
std::vector<Device> devices_for(const std::string& host) {
  std::vector<Device> devices;
  const char* names = std::getenv("GLOO_SOCKET_IFNAME");
  std::istringstream list(names ? names : "");
  for (std::string name; std::getline(list, name, ',');)
    if (!name.empty()) devices.push_back(device_of(name));
  if (!devices.empty()) return devices;
  const std::string address = address_towards(host);
  return {address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                          : c10d::ProcessGroupGloo::createDeviceForHostname(address)};
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// Gloo's words, without where in its sources they stand and what it wishes us.
std::string exchange_words(const std::exception& e) {
  const auto* ours = dynamic_cast<const c10::Error*>(&e);
  std::string text = ours ? ours->what_without_backtrace() : e.what();
  if (const size_t at = text.find("] ", text.rfind('/') == std::string::npos ? 0 : text.rfind('/'));
      text.rfind('[', 0) == 0 && at != std::string::npos)
    text = text.substr(at + 2);  // "[/somebody's/path/pair.cc:446] "
  text = text.substr(0, text.find('\n'));
  if (const size_t at = text.find(" GLHF!"); at != std::string::npos) text.erase(at, 6);
  return text;
}

}  // namespace

struct RankGroup::State {
  RankGroupOptions options;
  std::unique_ptr<RankStore> store;
  std::unique_ptr<RankWatch> watch;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  int64_t meetings = 0;
  std::string broken;  // why nothing works any more
  bool left = false;
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, std::vector<at::Tensor>>> works;
  Statistics statistics;

  /// Whoever has not found out yet need not wait.
  [[noreturn]] void lose(const std::string& message) {
    broken = message;
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

void RankGroup::State::join(const std::atomic<bool>& abort) {
  auto o = c10d::ProcessGroupGloo::Options::create(options.timeout + 3 * slice());  // we notice first
  o->devices = devices_for(options.host);
  meet(abort);
  told(
      [&] { gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store->store(), options.rank, options.world_size, o); });
}

void RankGroup::State::meet(const std::atomic<bool>& abort) {
  usable();
  const int64_t n = meetings++;
  const auto begin = Clock::now();
  const std::string met = "met/" + std::to_string(n), done = "done/" + std::to_string(n);
  told([&] {
    if (n == 0) store->set("world/" + std::to_string(options.rank), std::to_string(options.world_size));
    watch->arrive(n);
    if (store->add(met, 1) == options.world_size) {
      if (n > 1)
        for (const char* name : {"met/", "done/"}) store->remove(name + std::to_string(n - 2));
      store->set(done, "1");
    } else {
      wait_for(n, abort, [&] {
        if (n == 0) check_sizes();
        return store->wait(done, slice());
      });
    }
    if (n == 0) check_sizes();
  });
  statistics.waiting += seconds_since(begin);
}

RankGroup::RankGroup(const RankGroupOptions& options, const std::atomic<bool>& abort)
    : state_(std::make_shared<State>()) {
  State& s = *state_;
  s.options = options;
  s.store = std::make_unique<RankStore>(
      StoreOptions{options.host, options.port, options.serve, options.prefix, options.timeout}, abort);
  s.watch = std::make_unique<RankWatch>(*s.store, options.rank, options.world_size, options.timeout);
  try {
    s.join(abort);
  } catch (const std::exception& e) {
    fail(e.what());
    s.leave();
    throw;
  }
}

RankGroup::~RankGroup() { state_->leave(); }

int RankGroup::rank() const { return state_->options.rank; }
int RankGroup::world_size() const { return state_->options.world_size; }
RankGroup::Statistics RankGroup::statistics() const { return state_->statistics; }

void RankGroup::set_step(int64_t step) { state_->watch->set_step(step); }
void RankGroup::meet(const std::atomic<bool>& abort) { state_->meet(abort); }
void RankGroup::leave() noexcept { state_->leave(); }

void RankGroup::last_words(const std::string& message) {
  state_->watch->last_words(message);
  if (state_->options.serve)
    std::this_thread::sleep_for(2 * kSlice);  // whoever waits reads it before the store is gone
}

void RankGroup::begin_sum(std::vector<at::Tensor> numbers) {
  State& s = *state_;
  s.usable();
  s.told([&] {
    auto work = numbers.size() == 1 ? s.gloo->allreduce(numbers) : s.gloo->allreduce_coalesced(numbers);
    s.begin(std::move(work), std::move(numbers));
  });
}

void RankGroup::begin_sum_at(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.usable();
  s.told([&] {
    std::vector<at::Tensor> list{numbers};
    c10d::ReduceOptions options;
    options.rootRank = owner;
    s.begin(s.gloo->reduce(list, options), list);
  });
}

void RankGroup::begin_share(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.usable();
  s.told([&] {
    std::vector<at::Tensor> list{numbers};
    c10d::BroadcastOptions options;
    options.rootRank = owner;
    s.begin(s.gloo->broadcast(list, options), list);
  });
}

void RankGroup::finish(const std::atomic<bool>& abort) {
  State& s = *state_;
  s.usable();
  const auto begin = Clock::now();
  auto works = std::move(s.works);
  s.works.clear();
  for (auto& [work, keep] : works)
    s.told([&] {
      s.wait_for(s.meetings + 1, abort, [&work = work] {
        if (work->isCompleted()) return true;
        std::this_thread::sleep_for(kPoll);
        return false;
      });
      work->wait();  // throws what went wrong
    });
  s.statistics.exchanging += seconds_since(begin);
}

std::vector<std::string> RankGroup::gather(const std::string& bytes, const std::atomic<bool>& abort) {
  State& s = *state_;
  const int world = s.options.world_size;
  meet(abort);
  const auto exchange = [&](at::Tensor mine) {
    std::vector<std::vector<at::Tensor>> all(1);
    for (int r = 0; r < world; ++r) all[0].push_back(at::empty_like(mine));
    std::vector<at::Tensor> list{mine};
    s.told([&] { s.begin(s.gloo->allgather(all, list), list); });
    finish(abort);
    return all[0];
  };
  std::vector<int64_t> sizes;
  for (const at::Tensor& t : exchange(at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong)))
    sizes.push_back(t.item<int64_t>());
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::vector<std::string> out(static_cast<size_t>(world));
  if (longest == 0) return out;
  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::memcpy(padded.mutable_data_ptr(), bytes.data(), bytes.size());
  const std::vector<at::Tensor> all = exchange(padded);
  for (size_t r = 0; r < out.size(); ++r)
    out[r].assign(static_cast<const char*>(all[r].const_data_ptr()), static_cast<size_t>(sizes[r]));
  return out;
}

std::string RankGroup::from_first(const std::string& bytes, const std::atomic<bool>& abort) {
  State& s = *state_;
  meet(abort);
  const bool first = s.options.rank == 0;
  at::Tensor size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  begin_share(0, size);
  finish(abort);
  std::string out(static_cast<size_t>(size.item<int64_t>()), '\0');
  if (out.empty()) return out;
  at::Tensor data = at::empty({size.item<int64_t>()}, at::kByte);
  if (first) std::memcpy(data.mutable_data_ptr(), bytes.data(), bytes.size());
  begin_share(0, data);
  finish(abort);
  std::memcpy(out.data(), data.const_data_ptr(), out.size());
  return out;
}

void RankGroup::fail(const std::string& message) noexcept {
  State& s = *state_;
  if (!s.broken.empty()) return;
  s.watch->tell(message);
  s.broken = message;
}

}  // namespace fg
