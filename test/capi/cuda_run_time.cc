// The CUDA run-time's calls that the C ABI makes, over the simulator's memory, and what a test needs to fill that memory.
#include <cuda_runtime_api.h>

#include <cstring>
#include <exception>

#include "simulator/sim.h"

namespace sim = fg::sim;

namespace {
bool fails = false;  // planted: the device is lost
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorIllegalAddress ? "illegal address" : "?"; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return fails ? cudaErrorIllegalAddress : cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  if (kind == cudaMemcpyDeviceToHost) sim::copy_out(to, from, bytes);
  return cudaSuccess;
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int sim_allocate(size_t bytes, void** out) { return *out = sim::allocate(bytes), 0; }
EXPORTED int sim_copy_in(void* to, const void* from, size_t bytes) { return sim::copy_in(to, from, bytes), 0; }
EXPORTED int sim_copy_out(void* to, const void* from, size_t bytes) { return sim::copy_out(to, from, bytes), 0; }
EXPORTED int sim_fail(int on) { return fails = on != 0, 0; }
EXPORTED int sim_release(void* pointer) { return sim::release(pointer), 0; }
