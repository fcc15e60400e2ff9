#pragma once
// Threads that sleep between calls and take pieces of whatever their callers have to do. Of the core addon (one, for
// the whole process) and of the C ABI (the caller's own).
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/context.h"

namespace fg {

class Pool {
 public:
  /// `threads` with the caller of run(): one fewer are started, and fewer still where the system gives no more.
  explicit Pool(int threads) {
    try {
      threads_.reserve(size_t(std::max(threads - 1, 0)));
      for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {  // those that there are do the work
    }
  }
  /// No run() may be in progress.
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return int(threads_.size()) + 1; }

  /// A ParallelFor: the caller works too. May be called from several threads at once and from inside itself.
  void run(int64_t n, int64_t chunk, RangeBody body, void* state) {
    if (n <= 0) return;
    chunk = std::max<int64_t>(chunk, 1);
    Job job{n, chunk, n / chunk + (n % chunk != 0), body, state};
    if (job.pieces == 1 || threads_.empty()) {
      job.work();
    } else {
      share(job);
    }
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  struct Job {
    int64_t n, chunk, pieces;
    RangeBody body;
    void* state;
    std::atomic<int64_t> next{0};
    int helpers = 0;  // guarded by the pool's mutex
    std::exception_ptr error{};
    std::mutex error_mutex{};

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

  void share(Job& job) {
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
  void drop(Job& job) { std::erase(jobs_, &job); }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      Job& job = *jobs_.front();
      ++job.helpers;
      lock.unlock();
      job.work();
      lock.lock();
      drop(job);  // nothing is left to hand out
      if (--job.helpers == 0) idle_.notify_all();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Job*> jobs_;
  bool stop_ = false;
};

}  // namespace fg
