#include "torch/rank_watch.h"

#include <algorithm>

namespace fg {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = RankWatch::Milliseconds;

std::string beat_key(int rank) { return "beat/" + std::to_string(rank); }
std::string failed_key(int rank) { return "failed/" + std::to_string(rank); }

std::string listed(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "Rank " : "Ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text + (ranks.size() == 1 ? " has" : " have");
}

}  // namespace

std::string RankWatch::Beat::text() const {
  return std::to_string(count) + " " + std::to_string(arrived) + " " + std::to_string(step);
}

RankWatch::Beat RankWatch::Beat::of(const std::string& text) {
  Beat b;
  std::sscanf(text.c_str(), "%ld %ld %ld", &b.count, &b.arrived, &b.step);
  return b;
}

RankWatch::RankWatch(RankStore& store, int rank, int world_size, Milliseconds timeout)
    : store_(store), rank_(rank), timeout_(timeout), seen_(static_cast<size_t>(world_size)) {
  beating_ = std::thread([this, line = std::shared_ptr<RankStore>(store.again())] { beat(*line); });
}

RankWatch::~RankWatch() { stop(); }

Milliseconds RankWatch::interval() const {
  return std::clamp(Milliseconds(timeout_.count() / 8), Milliseconds(50), Milliseconds(2000));
}

void RankWatch::beat(RankStore& line) {
  std::unique_lock lock(mutex_);
  const auto send = [&](auto say) {
    lock.unlock();
    bool sent = true;
    try {
      say();
    } catch (...) {
      sent = false;  // whoever waits will notice
    }
    lock.lock();
    return sent;
  };
  while (!stop_) {
    ++mine_.count;
    if (!send([&, text = mine_.text()] { line.set(beat_key(rank_), text); })) break;
    wake_.wait_for(lock, interval(), [this] { return stop_; });
  }
  if (!words_.empty())
    send([&, words = words_] {
      line.set(failed_key(rank_), words);
      line.add(kLeft, 1);
    });
  gone_ = true;
  said_.notify_all();
}

void RankWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (beating_.joinable()) beating_.join();
}

void RankWatch::last_words(const std::string& why) {
  std::unique_lock lock(mutex_);
  words_ = why;
  stop_ = true;
  wake_.notify_all();
  said_.wait_for(lock, Milliseconds(500), [this] { return gone_; });
}

void RankWatch::tell(const std::string& why) noexcept {
  try {
    store_.set(failed_key(rank_), why.empty() ? "without a word" : why);
  } catch (...) {
  }
}

void RankWatch::arrive(int64_t meeting) {
  const std::lock_guard lock(mutex_);
  mine_.arrived = meeting;
}

void RankWatch::set_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  mine_.step = step;
}

std::string RankWatch::when() {
  const std::lock_guard lock(mutex_);
  if (mine_.step < 0) return "";  // somebody's own loop, which says nothing of steps
  return mine_.step > 0 ? " (step " + std::to_string(mine_.step) + ")" : " (before the first step)";
}

void RankWatch::renew() {
  for (Seen& s : seen_) s.since = Clock::now();
  const std::lock_guard lock(mutex_);
  awaited_.clear();
}

std::string RankWatch::awaited() {
  const std::lock_guard lock(mutex_);
  return awaited_;
}

std::string RankWatch::silence(const std::vector<int>& silent, Milliseconds limit, bool failed) {
  const bool never =
      std::all_of(silent.begin(), silent.end(), [&](int r) { return seen_[static_cast<size_t>(r)].beat.count == 0; });
  char time[32];
  std::snprintf(time, sizeof time, "%g s", static_cast<double>(limit.count()) / 1000);
  if (never)
    return listed(silent) + " not come within " + time + when() +
           ": was it started, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE?";
  const std::string how = failed ? " stopped answering" : std::string(" given no sign of life for ") + time;
  return listed(silent) + how + when() + ": ended, stopped, or cut from the network";
}

std::string RankWatch::trouble(int64_t meeting, Milliseconds limit, bool failed) {
  std::vector<int> silent;
  std::string awaited;
  for (int r = 0; r < static_cast<int>(seen_.size()); ++r) {
    if (r == rank_) continue;
    if (const std::string why = store_.get(failed_key(r)); !why.empty())
      return why.rfind("Rank", 0) == 0 ? why : "Rank " + std::to_string(r) + " ended" + when() + ": " + why;
    const Beat beat = Beat::of(store_.get(beat_key(r)));
    Seen& s = seen_[static_cast<size_t>(r)];
    if (beat.count != s.beat.count || beat.arrived != s.beat.arrived) s = {beat, Clock::now()};
    if (s.beat.arrived >= meeting) continue;
    if (Clock::now() - s.since > limit) silent.push_back(r);
    awaited += (awaited.empty() ? "rank " : ", rank ") + std::to_string(r) +
               (s.beat.step > 0 ? " (step " + std::to_string(s.beat.step) + ")" : "");
  }
  {
    const std::lock_guard lock(mutex_);
    awaited_ = awaited;
  }
  missing_ = static_cast<int>(silent.size());
  return silent.empty() ? "" : silence(silent, limit, failed);
}

std::string RankWatch::blame(int64_t meeting) {
  const auto end = Clock::now() + std::min(timeout_, 4 * interval() + Milliseconds(500));
  renew();
  for (std::string why; Clock::now() < end; std::this_thread::sleep_for(interval() / 4))
    if (why = trouble(meeting, std::min(timeout_, 3 * interval()), true); !why.empty()) return why;
  return "";
}

}  // namespace fg
