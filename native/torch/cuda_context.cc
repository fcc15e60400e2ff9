#include "torch/cuda_context.h"

#include <cstring>

#include "torch/error.h"
#include "torch/torch_min.h"

#ifdef FG_CUDA
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <mutex>

#include "torch/cuda_self_test.h"
#endif

namespace fg {
namespace {

/// The path from native/ on: where a build lay is nobody's business.
const char* short_path(const char* file) {
  if (!file) return "?";
  const char* found = std::strstr(file, "native/");
  return found ? found : file;
}

}  // namespace

#ifdef FG_CUDA
namespace {

/// What cuda_status() builds on: asked once, at load.
struct Opened {
  int devices = 0;
  std::string reason;
};
Opened& opened() {
  static Opened state;
  return state;
}

/// Allocations of the self-test, on the device that is current.
class RuntimeMemory final : public DeviceMemory {
 public:
  RuntimeMemory() { FG_CUDA_CALL(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~RuntimeMemory() override {
    for (void* p : blocks_) cudaFree(p);
    cudaStreamDestroy(stream_);
  }
  void* allocate(size_t bytes) override {
    void* p = nullptr;
    FG_CUDA_CALL(cudaMalloc(&p, bytes));
    blocks_.push_back(p);
    return p;
  }
  void to_device(void* to, const void* from, size_t bytes) override {
    FG_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_));
    FG_CUDA_CALL(cudaStreamSynchronize(stream_));
  }
  void to_host(void* to, const void* from, size_t bytes) override {
    FG_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_));
    FG_CUDA_CALL(cudaStreamSynchronize(stream_));
  }
  void* stream() override { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
  std::vector<void*> blocks_;
};

GpuInfo describe(int index) {
  cudaDeviceProp p{};
  FG_CUDA_CALL(cudaGetDeviceProperties(&p, index));
  return {index, p.name, static_cast<int64_t>(p.totalGlobalMem), p.major, p.minor};
}

/// Empty, or what is wrong with the device that is current.
std::string test_current_device() {
  try {
    RuntimeMemory memory;
    return cuda_self_test(memory);
  } catch (const std::exception& e) {
    return e.what();
  }
}

CudaStatus find_out() {
  CudaStatus status;
  status.reason = opened().reason;
  if (!status.reason.empty()) return status;
  int before = 0;
  try {
    FG_CUDA_CALL(cudaGetDevice(&before));
    for (int d = 0; d < opened().devices; ++d) {
      status.gpus.push_back(describe(d));
      FG_CUDA_CALL(cudaSetDevice(d));
      const std::string wrong = test_current_device();
      if (!wrong.empty()) {
        status.reason =
            "self-test failed: " + status.gpus.back().description + " (cuda:" + std::to_string(d) + "): " + wrong;
        break;
      }
    }
    FG_CUDA_CALL(cudaSetDevice(before));
  } catch (const std::exception& e) {
    if (status.reason.empty()) status.reason = std::string("no device: ") + e.what();
  }
  status.usable = status.reason.empty();
  return status;
}

}  // namespace

/// A machine without a driver and one with an old driver give the same error code.
static std::string why_no_device(cudaError_t e) {
  int driver = 0;
  if (e != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess) return cudaGetErrorString(e);
  if (driver == 0) return "no NVIDIA driver on this machine";
  return "the NVIDIA driver is for CUDA " + std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10) +
         ", older than the engine's";
}

void open_cuda() {
  Opened& state = opened();
  int count = 0;  // the call leaves it alone when there is no driver
  const cudaError_t e = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (e != cudaSuccess || count == 0) {
    state.reason = "no device: " + (e == cudaSuccess ? "the driver lists none" : why_no_device(e));
    return;
  }
  // Found by the engine's own RUNPATH. Never linked: without its libraries the whole engine would not load.
  if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) {
    const char* why = dlerror();
    state.reason = std::string("libtorch: its CUDA half cannot be loaded (") + (why ? why : "?") + ")";
    return;
  }
  if (!at::hasCUDA()) {
    state.reason = "libtorch: it has been built without CUDA, or was asked about it too early";
    return;
  }
  state.devices = count;
}

const CudaStatus& cuda_status() {
  static const CudaStatus status = find_out();
  return status;
}

std::vector<std::string> cuda_architectures() {
  std::vector<std::string> out;
  std::string word;
  for (const char c : std::string(FG_CUDA_ARCHITECTURES) + ' ') {
    if (c != ' ')
      word += c;
    else if (!word.empty())
      out.push_back(std::move(word)), word.clear();
  }
  return out;
}

void* current_cuda_stream(int device) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream({c10::DeviceType::CUDA, index}).native_handle();
}

static std::string error_text(int code) {
  const auto e = static_cast<cudaError_t>(code);
  return std::string(cudaGetErrorString(e)) + " (" + cudaGetErrorName(e) + ")";
}
static bool is_out_of_memory(int code) { return code == cudaErrorMemoryAllocation; }

#else

void open_cuda() {}
const CudaStatus& cuda_status() {
  static const CudaStatus status{false, "built without CUDA", {}};
  return status;
}
std::vector<std::string> cuda_architectures() { return {}; }
void* current_cuda_stream(int) { throw CodedError("ERR_NO_CUDA", "This engine was built without CUDA"); }
static std::string error_text(int code) { return "CUDA error " + std::to_string(code); }
static bool is_out_of_memory(int code) { return code == 2; }

#endif

void check_cuda(const cuda::Launch& launch, const char* expression) {
  if (launch.ok()) return;
  const std::string what = launch.what ? std::string(launch.what) + ", " : "";
  const std::string place =
      " in " + what + short_path(launch.file) + ":" + std::to_string(launch.line) + ": " + expression;
  if (launch.code < 0) throw CodedError("ERR_NO_CUDA", "This engine was built without CUDA:" + place);
  throw CodedError(is_out_of_memory(launch.code) ? "ERR_OUT_OF_MEMORY" : "ERR_CUDA",
                   "CUDA: " + error_text(launch.code) + place);
}

}  // namespace fg
