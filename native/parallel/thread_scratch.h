#pragma once
// Memory that a thread works in, again and again: a ScratchMemory (kernels/context.h).
#include <cstdint>
#include <cstdlib>

namespace fg {

/// Grown on demand and kept until the thread ends: fresh pages would cost more than what is done in them. Null where
/// there is none.
inline void* thread_scratch(int64_t bytes) {
  struct Memory {
    ~Memory() { std::free(data); }
    void* data = nullptr;
    int64_t size = 0;
  };
  thread_local Memory memory;
  if (memory.size < bytes) {
    std::free(memory.data);
    memory.size = (bytes + bytes / 4 + 63) / 64 * 64;
    memory.data = std::aligned_alloc(64, static_cast<size_t>(memory.size));
    if (!memory.data) memory.size = 0;
  }
  return memory.data;
}

}  // namespace fg
