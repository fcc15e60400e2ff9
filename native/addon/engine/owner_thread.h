#pragma once
// One thread that owns an engine object: every long call on the object runs there, in order, and settles a promise.
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "addon/common/napi_min.h"

namespace fg {

/// Turns a finished call's result into a JavaScript value; runs on the event loop.
using Deliver = std::function<Napi::Value(Napi::Env)>;
/// The work of a call; runs on the owner thread. Must poll `abort` between tokens or micro-batches and then throw
/// CodedError ERR_ABORTED.
using Work = std::function<Deliver(const std::atomic<bool>& abort)>;

class OwnerThread {
 public:
  /// `threads`: OpenMP threads of the calls (the count belongs to the thread that opens a region); 0 = libtorch's
  /// default.
  OwnerThread(Napi::Env env, int threads);
  ~OwnerThread();
  OwnerThread(const OwnerThread&) = delete;
  OwnerThread& operator=(const OwnerThread&) = delete;

  /// Queues a call. Returns { promise, abort }: abort() asks the call to stop; the promise then rejects with
  /// ERR_ABORTED unless the work had already finished. `keep` (the handle object) cannot be collected before the call
  /// has settled. Event loop only.
  Napi::Object submit(Napi::Env env, Napi::Object keep, Work work);

  /// Stops accepting calls; aborts the running one and rejects the queued ones with ERR_DISPOSED; `last` then runs on
  /// the owner thread (to free memory there). With no call pending it waits for that; otherwise it returns at once.
  /// Idempotent. Event loop only.
  void dispose(std::function<void()> last);
  bool disposed() const { return disposed_; }

 private:
  struct Call;
  using Tsfn = Napi::ThreadSafeFunction;
  void run();
  void finish(std::unique_ptr<Call> call);
  static void execute(Call& call);
  void settled(Napi::Env env);  // event loop: one call less
  void close();                 // event loop: joins the thread, which is about to end
  void shut_down();             // aborts, joins; nothing is delivered afterwards
  static void on_env_cleanup(void* self);

  Napi::Env env_;
  Tsfn tsfn_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Call>> queue_;  // guarded by mutex_
  Call* running_ = nullptr;                  // guarded by mutex_
  std::function<void()> last_;               // guarded by mutex_
  bool stop_ = false;                        // guarded by mutex_
  bool disposed_ = false;                    // event loop only
  bool closed_ = false;                      // event loop only: thread joined, tsfn released
  int pending_ = 0;                          // event loop only: calls not yet settled; they keep the process alive
  std::thread thread_;
};

/// A native exception as a JavaScript error with `code`; libtorch's messages lose their C++ backtrace.
Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& error);

}  // namespace fg
