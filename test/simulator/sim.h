#pragma once
// The simulator's public face: what tests and the test addon use. Kernels use platform_host.h only.
//
// A launch runs every CUDA thread as a fiber of its own, on one CPU thread, in an order drawn from the seed. Problems
// are found by rules (bounds, initialisation, happens-before), not by luck: the first one is thrown as a Violation.
#include <cstdint>
#include <string>
#include <vector>

#include "backends/device.h"
#include "kernels/cuda/launch.h"

namespace fg::sim {

/// `name` is stable ("race", "deadlock", "out of bounds", ...); the message says kernel, block and thread.
using backend::Violation;

/// What one launch did to global memory. A byte that is read again in the same launch counts in `reread_bytes` too.
struct LaunchRecord {
  std::string kernel;
  cuda::Shape shape;
  uint64_t read_bytes = 0, reread_bytes = 0, written_bytes = 0;
  uint64_t wide_bytes = 0;  // of read and written: by 16-byte accesses and bulk copies
  uint64_t bulk_bytes = 0;  // of read: by bulk copies
  uint64_t accesses = 0, atomics = 0;
  size_t static_shared = 0;
  uint64_t schedule = 0;  // a digest of the order in which threads ran
};

/// "sm_80" (A100) or "sm_90" (H200); multiprocessors 0: as many as it has.
cuda::Device preset(const std::string& arch, int multiprocessors = 0);
void set_device(const cuda::Device& device);
const cuda::Device& device();

/// Everything random follows from the seed and from the number of launches since.
void set_seed(uint64_t seed);
uint64_t seed();

/// The launches since the last call.
std::vector<LaunchRecord> take_launches();

// ---- simulated device memory: addresses that fault when they are dereferenced
/// The address is 256-byte aligned plus `offset`. Contents are uninitialised.
void* allocate(size_t bytes, size_t offset = 0);
void release(void* pointer);
void copy_in(void* device, const void* host, size_t bytes);
void copy_out(void* host, const void* device, size_t bytes);
/// Whether every byte has been written, by copy_in or by a kernel.
bool initialised(const void* device, size_t bytes);

using backend::Buffer;

}  // namespace fg::sim
