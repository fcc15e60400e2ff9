#include "torch/rank_group.h"

#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "torch/error.h"
#include "torch/rank_store.h"

namespace fg {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr Milliseconds kSlice{200};  // of waiting, between looks at the others
constexpr auto kPoll = std::chrono::microseconds(100);

/// The address by which this machine reaches `host`, or nothing. (A machine's own name often means another network, or
/// none.)
std::string address_towards(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host.c_str(), "9", &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* a = found; a && address.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_DGRAM, 0);
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST];
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      address = text;
    if (fd >= 0) close(fd);
  }
  freeaddrinfo(found);
  return address;
}

std::shared_ptr<gloo::transport::Device> device_for(const std::string& host) {
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  if (interface && *interface) return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  const std::string address = address_towards(host);
  return address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                         : c10d::ProcessGroupGloo::createDeviceForHostname(address);
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string listed(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text;
}

std::string first_line(const std::exception& e) {
  const auto* ours = dynamic_cast<const c10::Error*>(&e);
  std::string text = ours ? ours->what_without_backtrace() : e.what();
  if (const size_t at = text.find("] ", text.rfind('/') == std::string::npos ? 0 : text.rfind('/'));
      text.rfind('[', 0) == 0 && at != std::string::npos)
    text = text.substr(at + 2);  // "[/somebody's/path/pair.cc:446] "
  return text.substr(0, text.find('\n'));
}

}  // namespace

struct RankGroup::State {
  /// "count arrived step": how often a rank has beaten, the last meeting it came to, and its optimizer step.
  struct Beat {
    int64_t count = 0, arrived = -1, step = 0;
    std::string text() const {
      return std::to_string(count) + " " + std::to_string(arrived) + " " + std::to_string(step);
    }
    static Beat of(const std::string& text) {
      Beat b;
      std::sscanf(text.c_str(), "%ld %ld %ld", &b.count, &b.arrived, &b.step);
      return b;
    }
  };

  /// What a rank has shown of itself, and when it last changed.
  struct Seen {
    Beat beat;
    Clock::time_point since = Clock::now();
  };

  RankGroupOptions options;
  std::unique_ptr<RankStore> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  int64_t meetings = 0;
  std::string broken;  // why nothing works any more
  std::vector<Seen> seen;
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, std::vector<at::Tensor>>> works;
  Statistics statistics;

  std::mutex mutex;  // of what the beating thread reads
  std::condition_variable wake;
  Beat mine;
  bool stop = false;
  std::thread beating;

  Milliseconds interval() const {
    return std::clamp(Milliseconds(options.timeout.count() / 8), Milliseconds(50), Milliseconds(2000));
  }
  std::string beat_key(int rank) const { return "beat/" + std::to_string(rank); }
  std::string failed_key(int rank) const { return "failed/" + std::to_string(rank); }
  int64_t step() {
    const std::lock_guard lock(mutex);
    return mine.step;
  }
  std::string when() {
    const int64_t s = step();
    return s > 0 ? " (step " + std::to_string(s) + ")" : " (before the first step)";
  }

  void start_beating() {
    auto line = std::shared_ptr<RankStore>(store->again());
    beating = std::thread([this, line] {
      std::unique_lock lock(mutex);
      while (!stop) {
        ++mine.count;
        const std::string text = mine.text();
        lock.unlock();
        try {
          line->set(beat_key(options.rank), text);
        } catch (...) {
          return;  // whoever waits will notice
        }
        lock.lock();
        wake.wait_for(lock, interval(), [this] { return stop; });
      }
    });
  }

  void stop_beating() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    if (beating.joinable()) beating.join();
  }

  [[noreturn]] void lose(const std::string& message) {
    broken = message;
    try {
      store->set(failed_key(options.rank), message);  // whoever has not found out yet need not wait
    } catch (...) {
    }
    throw CodedError("ERR_RANK_LOST", message);
  }

  /// Throws when a rank has said why it ended, or those that have not come to meeting `n` have stopped beating.
  void look(int64_t n) {
    std::vector<int> silent;
    for (int r = 0; r < options.world_size; ++r) {
      if (r == options.rank) continue;
      if (const std::string why = store->get(failed_key(r)); !why.empty())
        lose(why.rfind("Rank", 0) == 0 ? why : "Rank " + std::to_string(r) + " ended" + when() + ": " + why);
      const Beat beat = Beat::of(store->get(beat_key(r)));
      Seen& s = seen[static_cast<size_t>(r)];
      if (beat.count != s.beat.count || beat.arrived != s.beat.arrived) s = {beat, Clock::now()};
      if (s.beat.arrived < n && Clock::now() - s.since > options.timeout) silent.push_back(r);
    }
    if (silent.empty()) return;
    char time[32];
    std::snprintf(time, sizeof time, "%g s", static_cast<double>(options.timeout.count()) / 1000);
    const bool never = std::all_of(silent.begin(), silent.end(), [&](int r) { return seen[r].beat.count == 0; });
    lose(listed(silent) + (silent.size() == 1 ? " has" : " have") +
         (never ? std::string(" not come within ") : std::string(" given no sign of life for ")) + time + when() +
         (never ? ": was it started, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE?"
                : ": ended, stopped, or cut from the network"));
  }

  /// After an exchange has failed: who is it? Somebody says so, or falls silent; the wait is short.
  [[noreturn]] void blame(const std::string& words) {
    const auto end = Clock::now() + std::min(options.timeout, 4 * interval() + Milliseconds(500));
    const int64_t all = meetings + 1;  // nobody is there yet
    for (Seen& s : seen) s.since = Clock::now();
    const RankGroupOptions given = options;
    options.timeout = std::min(options.timeout, 3 * interval());
    try {
      while (Clock::now() < end) {
        look(all);
        std::this_thread::sleep_for(interval() / 4);
      }
    } catch (const CodedError& e) {
      options = given;
      lose(std::string(e.what()) + " [" + words + "]");
    }
    options = given;
    lose("The exchange between the ranks failed" + when() + ": " + words);
  }

  void usable() const {
    if (!broken.empty()) throw CodedError("ERR_RANK_LOST", broken);
  }

  template <class Fn>
  auto told(Fn fn) {
    try {
      return fn();
    } catch (const CodedError& e) {
      if (e.code == "ERR_RANK_LOST" && broken.empty()) lose(e.what() + when());
      throw;
    } catch (const std::exception& e) {
      blame(first_line(e));
    }
  }

  void begin(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> keep) {
    for (const at::Tensor& t : keep) statistics.bytes += static_cast<int64_t>(t.nbytes());
    works.emplace_back(std::move(work), std::move(keep));
  }
};

RankGroup::RankGroup(const RankGroupOptions& options, const std::atomic<bool>& abort)
    : state_(std::make_shared<State>()) {
  State& s = *state_;
  s.options = options;
  s.seen.resize(static_cast<size_t>(options.world_size));
  s.store = std::make_unique<RankStore>(
      StoreOptions{options.host, options.port, options.serve, options.prefix, options.timeout});
  s.start_beating();
  try {
    meet(abort);
    s.told([&] {
      auto o = c10d::ProcessGroupGloo::Options::create(options.timeout);
      o->devices.push_back(device_for(options.host));
      s.gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(s.store->store(), options.rank, options.world_size, o);
    });
  } catch (...) {
    s.stop_beating();
    throw;
  }
}

RankGroup::~RankGroup() {
  State& s = *state_;
  // Who holds the store leaves last.
  try {
    if (!s.options.serve) s.store->add("left", 1);
    const auto end = Clock::now() + std::min(s.options.timeout, Milliseconds(s.broken.empty() ? 5000 : 2000));
    while (s.options.serve && s.store->add("left", 0) < s.options.world_size - 1 && Clock::now() < end)
      std::this_thread::sleep_for(Milliseconds(10));
  } catch (...) {
  }
  s.stop_beating();
}

int RankGroup::rank() const { return state_->options.rank; }
int RankGroup::world_size() const { return state_->options.world_size; }
RankGroup::Statistics RankGroup::statistics() const { return state_->statistics; }

void RankGroup::set_step(int64_t step) {
  const std::lock_guard lock(state_->mutex);
  state_->mine.step = step;
}

void RankGroup::meet(const std::atomic<bool>& abort) {
  State& s = *state_;
  s.usable();
  const int64_t n = s.meetings++;
  const auto begin = Clock::now();
  const std::string met = "met/" + std::to_string(n), done = "done/" + std::to_string(n);
  s.told([&] {
    {
      const std::lock_guard lock(s.mutex);
      s.mine.arrived = n;
    }
    if (s.store->add(met, 1) == s.options.world_size) {
      if (n > 1)
        for (const char* name : {"met/", "done/"}) s.store->remove(name + std::to_string(n - 2));
      return s.store->set(done, "1");
    }
    for (auto& seen : s.seen) seen.since = Clock::now();
    while (!s.store->wait(done, std::min(kSlice, s.interval()))) {
      if (abort) throw CodedError("ERR_ABORTED", "The operation was aborted");
      s.look(n);
    }
  });
  s.statistics.waiting += seconds_since(begin);
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
      while (!work->isCompleted()) {
        if (abort) throw CodedError("ERR_ABORTED", "The operation was aborted");
        std::this_thread::sleep_for(kPoll);
      }
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
  try {
    s.store->set(s.failed_key(s.options.rank), message.empty() ? "without a word" : message);
  } catch (...) {
  }
  s.broken = message;
}

}  // namespace fg
