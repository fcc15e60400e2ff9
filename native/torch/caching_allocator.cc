#include "torch/caching_allocator.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "torch/torch_min.h"

namespace fg {
namespace {

constexpr size_t kSmall = size_t{1} << 16;  // below it malloc keeps memory by itself
constexpr size_t kHeader = 64;              // before a block: its size; keeps the alignment vectors like

struct Block {
  size_t size;  // header included
};

/// Up to an eighth more than asked for, so that lengths that differ a little find each other's blocks.
size_t rounded_size(size_t n) {
  size_t step = kSmall / 8;
  while (step * 16 < n) step *= 2;
  return (n + step - 1) / step * step;
}

/// Free blocks by size. What is held, in use or not, never exceeds the most that was in use at once by more than a
/// quarter.
class Pool {
 public:
  void* take(size_t need) {
    if (need < kSmall) return data_of(make((need + 2 * kHeader - 1) / kHeader * kHeader));
    const size_t size = rounded_size(need + kHeader);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = free_.lower_bound(size);
      if (found != free_.end() && found->first <= size + size / 4) {
        Block* block = found->second;
        kept_ -= found->first;
        free_.erase(found);
        return count(block), data_of(block);
      }
    }
    Block* block = make(size);
    const std::lock_guard<std::mutex> lock(mutex_);
    count(block);
    return data_of(block);
  }

  void give(void* data) {
    Block* block = reinterpret_cast<Block*>(static_cast<char*>(data) - kHeader);
    if (block->size <= kSmall + kHeader) return std::free(block);
    const std::lock_guard<std::mutex> lock(mutex_);
    used_ -= block->size;
    kept_ += block->size;
    free_.emplace(block->size, block);
    trim(most_ + most_ / 4);
  }

  size_t start_peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return recent_ = used_;
  }
  size_t peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return recent_;
  }

  void release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    most_ = used_;
    trim(0);
  }

 private:
  static void* data_of(Block* block) { return reinterpret_cast<char*>(block) + kHeader; }

  void count(const Block* block) {
    used_ += block->size;
    most_ = std::max(most_, used_);
    recent_ = std::max(recent_, used_);
    trim(most_ + most_ / 4);
  }

  Block* make(size_t size) {
    void* memory = std::aligned_alloc(kHeader, size);
    if (!memory) {
      release();
      memory = std::aligned_alloc(kHeader, size);
      TORCH_CHECK_WITH(OutOfMemoryError, memory, "Not enough memory: tried to allocate ", size, " bytes");
    }
    return new (memory) Block{size};
  }

  /// Frees the largest kept blocks until at most `limit` bytes are held; the caller has the lock, as for count.
  void trim(size_t limit) {
    while (!free_.empty() && used_ + kept_ > limit) {
      const auto last = std::prev(free_.end());
      kept_ -= last->first;
      std::free(last->second);
      free_.erase(last);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, Block*> free_;
  size_t used_ = 0, kept_ = 0, most_ = 0, recent_ = 0;  // bytes; recent_: the most in use since start_peak
};

Pool& pool() {
  static Pool* pool = new Pool;  // never destroyed: tensors may outlive static destructors
  return *pool;
}

void give(void* data) { pool().give(data); }

class CachingAllocator : public at::Allocator {
 public:
  at::DataPtr allocate(size_t n) override {
    if (n == 0) return {nullptr, at::Device(at::kCPU)};
    void* data = pool().take(n);
    return {data, data, &give, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &give; }  // libtorch's own scratch comes this way
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
};

}  // namespace

void install_caching_allocator() {
  static const bool installed = [] {
    c10::SetCPUAllocator(new CachingAllocator, /*priority=*/1);  // never destroyed, as the pool
    return true;
  }();
  (void)installed;
}

size_t start_memory_peak() { return pool().start_peak(); }
size_t memory_peak() { return pool().peak(); }

void release_cached_memory() { pool().release(); }

}  // namespace fg
