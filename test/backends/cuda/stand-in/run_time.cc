// The stand-in for the CUDA run-time: simulated memory, work done when it is queued. plant(name): what goes wrong from
// now on ("": nothing). places(): bit k is set where an array has come to lie k bytes after a 16-byte boundary.
#include <cuda_runtime_api.h>

#include <cstring>
#include <string>
#include <vector>

#include "backends/exports.h"
#include "simulator/sim.h"

namespace sim = fg::sim;

namespace {
std::string planted;
uint32_t places = 0;
bool is(const char* name) { return planted == name; }

const fg::backend::Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("places",
        Napi::Function::New(env, [](const Napi::CallbackInfo& i) { return Napi::Number::New(i.Env(), places); }));
  o.Set("plant", Napi::Function::New(env, [](const Napi::CallbackInfo& i) { planted = i[0].ToString().Utf8Value(); }));
});
}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = is("no device") ? 0 : 1;
  return is("no driver") ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = is("no driver") ? 0 : 13020;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "out of memory" : e == cudaErrorIllegalAddress ? "illegal address" : "?";
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return is("kernel fails") ? cudaErrorIllegalAddress : cudaSuccess; }

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (is("memory is full")) return cudaErrorMemoryAllocation;
  *pointer = sim::allocate(bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  sim::release(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t) {
  std::vector<char> fill(bytes, static_cast<char>(value));
  if (is("written before")) fill[255] = 0;
  if (is("written behind")) fill[bytes - 256] = 0;
  sim::copy_in(pointer, fill.data(), bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  if (kind == cudaMemcpyHostToDevice)
    sim::copy_in(to, from, bytes), places |= 1u << reinterpret_cast<uintptr_t>(to) % 16;
  if (kind == cudaMemcpyDeviceToHost) sim::copy_out(to, from, bytes);
  if (kind == cudaMemcpyDeviceToHost && is("nothing written")) std::memset(to, 0xFF, bytes);
  return cudaSuccess;
}
