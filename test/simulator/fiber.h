#pragma once
// Stacks and the switch between them. swapcontext would do two system calls per switch; ours saves six registers.
#include <cstddef>

namespace fg::sim {

inline constexpr size_t kStackBytes = 64 * 1024;

/// One stack, with a guard page below it. Reused for one thread after another; what an abandoned thread left is
/// ignored.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*entry)());  // the next resume() calls it; it must never return
  void resume();                // from the scheduler; returns when the fiber calls suspend()
  void suspend();               // from the fiber
  bool in_guard(const void* address) const;

 private:
  struct Context;
  char* stack_;
  Context* context_;
};

}  // namespace fg::sim
