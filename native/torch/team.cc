#include "torch/team.h"

#include <algorithm>
#include <thread>

#include "torch/cpu_context.h"

namespace fg {

namespace {

// Waiting members spin for about ten microseconds (a pause takes 40 to 140 cycles), as long as the others' shares
// differ, then give their time away: on a busy machine the member that is waited for may not be running.
constexpr int kSpins = 300;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <class Ready>
void wait_until(Ready ready) {
  for (int i = 0; !ready(); ++i) i < kSpins ? pause_briefly() : std::this_thread::yield();
}

struct Team {
  std::atomic<int64_t> joined{0};   // ranks
  std::atomic<int64_t> members{0};  // threads
  std::atomic<int64_t> waiting{0};
  std::atomic<uint64_t> round{0};

  void barrier(int64_t size) {
    const uint64_t now = round.load(std::memory_order_relaxed);
    if (waiting.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      waiting.store(0, std::memory_order_relaxed);
      round.store(now + 1, std::memory_order_release);
      return;
    }
    wait_until([&] { return round.load(std::memory_order_acquire) != now; });
  }
};

struct Member {
  Team* team = nullptr;
  int64_t rank = 0, size = 1;
};
thread_local Member member;

}  // namespace

void run_team(int64_t threads, const std::function<void()>& work) {
  Team team;
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    // There may be fewer threads than asked for: whoever comes stands for its part of the range, and the number of
    // those who came is the size of the team.
    const int64_t rank = team.members.fetch_add(1);
    team.joined.fetch_add(end - begin);
    wait_until([&] { return team.joined.load() == threads; });
    member = {&team, rank, team.members.load()};
    work();
    member = {};
  });
}

Context team_context() {
  Context context;
  context.parallel_for = [](int64_t n, int64_t chunk, RangeBody body, void* state) {
    const int64_t tasks = (n + chunk - 1) / chunk;
    const int64_t first = tasks * member.rank / member.size, last = tasks * (member.rank + 1) / member.size;
    for (int64_t t = first; t < last; ++t) body(state, t * chunk, std::min(n, (t + 1) * chunk));
    if (member.size > 1) member.team->barrier(member.size);
  };
  context.scratch = engine_scratch;
  return context;
}

}  // namespace fg
