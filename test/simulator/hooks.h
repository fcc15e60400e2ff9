#pragma once
// What platform_host.h calls: the operations of a kernel, without their types. Implemented in the .cc files next to it.
#include <cstddef>
#include <cstdint>

#include "simulator/sim.h"

namespace fg::sim {

/// The running thread's coordinates.
struct Coordinates {
  int thread = 0, threads = 0, lane = 0, warp = 0, rank = 0, cluster = 1;
  int64_t block = 0, blocks = 0;
};
extern Coordinates here;

/// Ends the launch from inside a kernel, or throws when no kernel runs.
[[noreturn]] void fail(const char* name, const std::string& what);

/// A piece of the running block's shared memory: `begin` and `end` are the array's own bounds.
struct SharedAt {
  uint32_t offset = 0, begin = 0, end = 0;
};

/// `counted` false: another lane of the warp reads the same in the same instruction.
void global_read(const void* p, void* to, size_t bytes, bool counted = true);
void global_write(void* p, const void* from, size_t bytes);
uint32_t global_increment(uint32_t* p);

enum class WarpOp : uint8_t { none, sync_warp, shuffle, shuffle_xor, ballot };
/// A rendezvous of the warp's 32 lanes. `argument`: the source lane, the mask, or the predicate.
uint64_t warp_rendezvous(WarpOp op, uint64_t value, int argument);
void block_sync();
void named_sync(int id, int count);
void cluster_sync_all();

SharedAt static_shared_at(const void* tag, size_t bytes, size_t align);
SharedAt dynamic_shared_at(size_t offset, size_t align);
void shared_read(SharedAt at, void* to, size_t bytes);
void shared_write(SharedAt at, const void* from, size_t bytes);
uint64_t shared_atomic_add(SharedAt at, uint64_t v, size_t bytes);
void shared_read_remote(SharedAt at, int rank, void* to, size_t bytes);
void send16(const void* value, SharedAt slot, int rank, SharedAt signal);

void mbarrier_init(SharedAt b, int arrivals);
void mbarrier_publish();
void mbarrier_arrive(SharedAt b, uint32_t bytes, const char* what);
void mbarrier_wait(SharedAt b, uint32_t parity);
void bulk_copy(SharedAt to, const void* from, uint32_t bytes, SharedAt b);
void async_proxy_fence();

float approximate_exp2(float x);

using Entry = void (*)(const void* kernel, const void* args);
/// Runs a whole grid; 0, or 1 (cudaErrorInvalidValue) for a shape that the device refuses.
int run_grid(const char* name, const cuda::Shape& shape, Entry entry, const void* kernel, const void* args);
int64_t resident(const cuda::Shape& shape);

}  // namespace fg::sim
