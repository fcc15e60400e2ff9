// What the hardware of the host notices: dereferenced device addresses, and stacks that are too small.
#include <signal.h>
#include <ucontext.h>

#include "simulator/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace fg::sim {

namespace {

/// A raw dereference of a simulated address, or a stack that ran over: goes on in fail(), on a stack of its own.
alignas(16) char fault_stack[256 * 1024];
alignas(16) char signal_stack[64 * 1024];
struct sigaction previous;
bool overflow = false;

[[noreturn]] void on_fault() {
  if (overflow) fail("stack overflow", "a thread used more than " + std::to_string(kStackBytes) + " bytes of stack");
  fail("raw dereference", "global memory was touched without load() or store()");
}

void handler(int signal, siginfo_t* info, void* context) {
  const Machine& m = machine();
  overflow = m.current && m.current->fiber->in_guard(info->si_addr);
  if (m.current && (overflow || is_simulated(info->si_addr))) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fault_stack, sizeof fault_stack);  // its last user has been abandoned
#endif
    [[maybe_unused]] auto* u = static_cast<ucontext_t*>(context);
    [[maybe_unused]] const auto top = reinterpret_cast<uintptr_t>(fault_stack + sizeof fault_stack);
#if defined(__x86_64__)
    u->uc_mcontext.gregs[REG_RIP] = greg_t(reinterpret_cast<uintptr_t>(&on_fault));
    u->uc_mcontext.gregs[REG_RSP] = greg_t(top - 8);
    return;
#elif defined(__aarch64__)
    u->uc_mcontext.pc = reinterpret_cast<uintptr_t>(&on_fault);
    u->uc_mcontext.sp = top;
    return;
#endif
  }
  sigaction(signal, &previous, nullptr);  // not ours: the instruction faults again
}

}  // namespace

void install_fault_handler() {
  static bool done = false;
  if (done) return;
  done = true;
  stack_t alternate{};
  alternate.ss_sp = signal_stack;
  alternate.ss_size = sizeof signal_stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, &previous);
}

}  // namespace fg::sim
