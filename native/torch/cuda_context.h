#pragma once
// The GPU as the engine sees it: is there one that may be trusted, torch's stream on it, and errors with their place.
// Without FG_CUDA all of it is here as well and says so.
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"

namespace fg {

struct GpuInfo {
  int index = 0;
  std::string description;  // e.g. NVIDIA H200
  int64_t memory_bytes = 0;
  int major = 0, minor = 0;
};

struct CudaStatus {
  bool usable = false;
  std::string reason;  // why not: "built without CUDA", "no device: ...", "libtorch: ...", "self-test failed: ..."
  std::vector<GpuInfo> gpus;
};

/// Opens libtorch's CUDA half when a device answers. Must come before anything asks at::hasCUDA(), which remembers.
void open_cuda();
/// The first call runs the self-test on every device; the answer stands for the life of the process.
const CudaStatus& cuda_status();
/// What the kernels were compiled for, e.g. {"80", "90a", "100"}; empty without CUDA.
std::vector<std::string> cuda_architectures();

/// The stream that torch uses on this device in this thread: a cudaStream_t.
void* current_cuda_stream(int device);

/// Throws CodedError when `code` (a cudaError_t) is not 0: ERR_OUT_OF_MEMORY (nothing is lost, the call may be repeated
/// smaller), ERR_NO_CUDA, else ERR_CUDA. The message holds the expression, the kernel or call, and file:line.
void check_cuda(const cuda::Launch& launch, const char* expression);
#define FG_CUDA_OP(expression) ::fg::check_cuda((expression), #expression)
#define FG_CUDA_CALL(call) ::fg::check_cuda({int(call), nullptr, __FILE__, __LINE__}, #call)

}  // namespace fg
