#include "addon/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace fg {
namespace {

struct Job {
  int64_t n, chunk, pieces;
  RangeBody body;
  void* state;
  std::atomic<int64_t> next{0};
  int helpers = 0;  // guarded by the pool's mutex
  std::exception_ptr error;
  std::mutex error_mutex;

  void work() {
    for (int64_t i; (i = next.fetch_add(1)) < pieces;) {
      try {
        body(state, i * chunk, std::min(n, (i + 1) * chunk));
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next = pieces;
      }
    }
  }
};

class Pool {
 public:
  Pool() : threads_(wanted()) {
    for (int i = 1; i < threads_; ++i) std::thread([this] { serve(); }).detach();
  }
  int threads() const { return threads_; }

  void run(Job& job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(&job);
    }
    job.pieces > 2 ? wake_.notify_all() : wake_.notify_one();
    job.work();
    std::unique_lock lock(mutex_);
    drop(job);
    idle_.wait(lock, [&] { return job.helpers == 0; });
  }

 private:
  static int wanted() {
    if (const char* text = std::getenv("FUSED_GRPO_THREADS"); text && *text)
      return std::clamp(std::atoi(text), 1, 1024);
    return int(std::max(1u, std::thread::hardware_concurrency()));  // respects the affinity mask
  }
  void drop(Job& job) { std::erase(jobs_, &job); }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      ++job.helpers;
      lock.unlock();
      job.work();
      lock.lock();
      drop(job);  // nothing is left to hand out
      if (--job.helpers == 0) idle_.notify_all();
    }
  }

  const int threads_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job*> jobs_;
};

/// Never destroyed: its threads sleep on it until the process ends, and the addon is never unloaded (-z nodelete).
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

int pool_threads() { return pool().threads(); }

void pool_parallel_for(int64_t n, int64_t chunk, RangeBody body, void* state) {
  if (n <= 0) return;
  chunk = std::max<int64_t>(chunk, 1);
  Job job{n, chunk, (n + chunk - 1) / chunk, body, state};
  if (job.pieces == 1 || pool().threads() == 1) {
    job.work();
  } else {
    pool().run(job);
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace fg
