// backends/device.h on the GPU that is current. The simulator sees every access; here memory itself has to tell: it is
// filled with 0xFF (NaN in every format) from before its beginning until behind its end, and looked at afterwards.
#include "backends/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <vector>

#include "backends/exports.h"

namespace fg::backend {

const char* const kName = "cuda";
const char* const kViolationCode = "ERR_CUDA";

namespace {

constexpr unsigned char kFill = 0xFF;
constexpr size_t kMargin = 256;  // on both sides, which nothing may write to; keeps the alignment of cudaMalloc

struct Block {
  size_t offset, bytes;
  size_t before() const { return kMargin + offset; }
};
std::map<const void*, Block>& blocks() {
  static std::map<const void*, Block> all;
  return all;
}

void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  (void)cudaGetLastError();
  throw Violation("CUDA error", std::string(what) + ": " + cudaGetErrorString(e));
}
#define MUST(call) must(call, #call)

/// Not the default stream: work that an op queues elsewhere is not waited for, and shows.
cudaStream_t stream() {
  static const cudaStream_t own = [] {
    cudaStream_t s;
    MUST(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
  }();
  return own;
}

bool is_fill(const unsigned char* p, size_t n) {
  return std::all_of(p, p + n, [](unsigned char c) { return c == kFill; });
}
bool untouched(const char* device, size_t bytes) {
  std::vector<unsigned char> found(bytes);
  copy_out(found.data(), device, bytes);
  return is_fill(found.data(), bytes);
}

/// Empty, or why no kernel can run here. A machine without a driver and one with an old one give the same error.
std::string problem() {
  int count = 0, driver = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (e == cudaSuccess && count > 0) return "";
  if (e == cudaSuccess) return "the NVIDIA driver lists no device";
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "no NVIDIA driver on this machine";
  return cudaGetErrorString(e);
}

const Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("problem",
        Napi::Function::New(env, [](const Napi::CallbackInfo& i) { return Napi::String::New(i.Env(), problem()); }));
  o.Set("architecture", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
          const cuda::Device d = cuda::current_device();
          return Napi::Number::New(i.Env(), d.major * 10 + d.minor);
        }));
});

}  // namespace

void configure(const Settings& s) {
  if (!s.arch.empty()) throw Violation("bad argument", "a GPU cannot be made another one");
}
Context context() { return {nullptr, stream()}; }
std::string error_text(int code) { return cudaGetErrorString(cudaError_t(code)); }

void* allocate(size_t bytes, size_t offset) {
  const size_t all = kMargin + offset + bytes + kMargin;
  void* base = nullptr;
  MUST(cudaMalloc(&base, all));
  void* const pointer = static_cast<char*>(base) + kMargin + offset;
  blocks()[pointer] = {offset, bytes};
  MUST(cudaMemsetAsync(base, kFill, all, stream()));
  return pointer;
}

void release(void* pointer) noexcept {
  const auto block = blocks().find(pointer);
  (void)cudaFree(static_cast<char*>(pointer) - block->second.before());
  blocks().erase(block);
}

void copy_in(void* device, const void* host, size_t bytes) {
  MUST(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream()));
  MUST(cudaStreamSynchronize(stream()));
}

void copy_out(void* host, const void* device, size_t bytes) {
  MUST(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()));
  MUST(cudaStreamSynchronize(stream()));
}

bool written(const void* device, size_t bytes, size_t unit) {
  std::vector<unsigned char> found(bytes);
  copy_out(found.data(), device, bytes);
  for (size_t i = 0; i < bytes; i += unit)
    if (is_fill(found.data() + i, unit)) return false;
  return true;
}

void check_margins(const void* pointer) {
  const Block b = blocks().at(pointer);
  const char* const begin = static_cast<const char*>(pointer);
  if (!untouched(begin - b.before(), b.before()) || !untouched(begin + b.bytes, kMargin))
    throw Violation("out of bounds", "a kernel wrote beside an array of " + std::to_string(b.bytes) + " bytes");
}

}  // namespace fg::backend
