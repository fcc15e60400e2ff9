#pragma once
// The JavaScript handle of a RankGroup.
#include <memory>
#include <mutex>
#include <utility>

#include "addon/engine/convert.h"
#include "addon/engine/owner_thread.h"
#include "torch/rank_group.h"

namespace fg {

class GroupHandle : public Napi::ObjectWrap<GroupHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit GroupHandle(const Napi::CallbackInfo& info);

  /// The group inside a GroupHandle, or null where the value is none; throws where it was not joined. Event loop.
  static std::shared_ptr<RankGroup> of(const Napi::Value& value);

 private:
  struct Joined {
    std::shared_ptr<RankGroup> group;
    std::mutex mutex;  // of `group` where it changes, and where another thread than the group's own reads it

    std::shared_ptr<RankGroup> exchange(std::shared_ptr<RankGroup> next) {
      const std::lock_guard lock(mutex);
      return std::exchange(group, std::move(next));
    }
    std::shared_ptr<RankGroup> now() {
      const std::lock_guard lock(mutex);
      return group;
    }
  };
  Napi::Value join(const Napi::CallbackInfo& info);    // ({ rank, worldSize, host, port, serve, prefix, timeout (ms) })
  Napi::Value gather(const Napi::CallbackInfo& info);  // (Uint8Array) -> call<Uint8Array[]>
  Napi::Value from_first(const Napi::CallbackInfo& info);  // (Uint8Array) -> call<Uint8Array>
  Napi::Value meet(const Napi::CallbackInfo& info);        // () -> call<void>
  Napi::Value set_step(const Napi::CallbackInfo& info);    // (step)
  Napi::Value fail(const Napi::CallbackInfo& info);        // (message) -> call<void>
  Napi::Value last_words(const Napi::CallbackInfo& info);  // (message): at the process's end
  Napi::Value awaited(const Napi::CallbackInfo& info);     // () -> string: who a meeting waits for
  Napi::Value statistics(const Napi::CallbackInfo& info);  // () -> { bytes, waiting, exchanging }
  Napi::Value leave(const Napi::CallbackInfo& info);       // () -> call<void>

  /// Queues `work(joined, abort)`.
  template <class Fn>
  Napi::Value submit(const Napi::CallbackInfo& info, Fn work) {
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(),
                          [joined = joined_, work = std::move(work)](const std::atomic<bool>& abort) mutable {
                            return Deliver(work(*joined, abort));
                          });
  }

  OwnerThread thread_;
  std::shared_ptr<Joined> joined_ = std::make_shared<Joined>();
};

}  // namespace fg
