#include "simulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// void fg_sim_switch(void** save, void* load): the callee-saved registers lie on the stack that is left.
asm(R"(
.text
.hidden fg_sim_switch
.globl fg_sim_switch
.type fg_sim_switch,@function
fg_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fg_sim_switch,.-fg_sim_switch
)");
extern "C" void fg_sim_switch(void** save, void* load);
#else
#include <ucontext.h>
#endif

namespace fg::sim {

namespace {

const size_t kGuard = size_t(sysconf(_SC_PAGESIZE));

#if defined(__SANITIZE_ADDRESS__)
void* scheduler_fake = nullptr;
const void* scheduler_bottom = nullptr;
size_t scheduler_size = 0;
#endif

}  // namespace

#if defined(__x86_64__)
struct Fiber::Context {
  void* own = nullptr;
  void* scheduler = nullptr;
  void* fake = nullptr;
};
#else
struct Fiber::Context {
  ucontext_t own, scheduler;
  void* fake = nullptr;
};
#endif

Fiber::Fiber() : context_(new Context) {
  void* p =
      mmap(nullptr, kStackBytes + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mprotect(p, kGuard, PROT_NONE);
  stack_ = static_cast<char*>(p) + kGuard;
}

Fiber::~Fiber() {
  munmap(stack_ - kGuard, kStackBytes + kGuard);
  delete context_;
}

bool Fiber::in_guard(const void* address) const {
  const auto a = reinterpret_cast<uintptr_t>(address), s = reinterpret_cast<uintptr_t>(stack_);
  return a < s && a + kGuard >= s;
}

void Fiber::start(void (*entry)()) {
  context_->fake = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);  // what an abandoned thread left
#endif
#if defined(__x86_64__)
  // As fg_sim_switch leaves it: six registers, then the address that `ret` takes; the ABI wants 8 mod 16 on entry.
  auto** top = reinterpret_cast<void**>(stack_ + kStackBytes);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  context_->own = top - 8;
#else
  getcontext(&context_->own);
  context_->own.uc_stack.ss_sp = stack_;
  context_->own.uc_stack.ss_size = kStackBytes;
  context_->own.uc_link = nullptr;
  makecontext(&context_->own, entry, 0);
#endif
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
  if (!scheduler_bottom) {
    pthread_attr_t attributes;
    void* bottom;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &bottom, &scheduler_size);
    pthread_attr_destroy(&attributes);
    scheduler_bottom = bottom;
  }
  __sanitizer_start_switch_fiber(&scheduler_fake, stack_, kStackBytes);
#endif
#if defined(__x86_64__)
  fg_sim_switch(&context_->scheduler, context_->own);
#else
  swapcontext(&context_->scheduler, &context_->own);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&context_->fake, scheduler_bottom, scheduler_size);
#endif
#if defined(__x86_64__)
  fg_sim_switch(&context_->own, context_->scheduler);
#else
  swapcontext(&context_->own, &context_->scheduler);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(context_->fake, nullptr, nullptr);
#endif
}

}  // namespace fg::sim
