// The CUDA ops on a real device against their CPU twins on the same bytes, sizes beyond 32 bits, and timing.
//   gpu-check device | tests [--quick] | large | bench [file]      run by scripts/gpu-check.sh
#include <cstdio>
#include <string>

#include "parts.h"
#include "support.h"

namespace fg::check {
namespace {

int find_device() {
  int count = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  if (e != cudaSuccess || count == 0) {
    std::printf("no device: %s\n", e == cudaSuccess ? "the driver reports none" : cudaGetErrorString(e));
    return 3;
  }
  const cuda::Device d = cuda::current_device();
  cudaDeviceProp properties;
  MUST(cudaGetDeviceProperties(&properties, 0));
  std::printf("device: %s, sm_%d%d, %d multiprocessors, %.1f GB; CPU kernels: %s\n", properties.name, d.major, d.minor,
              d.multiprocessors, double(properties.totalGlobalMem) / 1e9, simd());
  return 0;
}

}  // namespace
}  // namespace fg::check

int main(int count, char** arguments) {
  using namespace fg::check;
  const std::string part = count > 1 ? arguments[1] : "device";
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (const int code = find_device(); code != 0 || part == "device") return code;
  quick = count > 2 && std::string(arguments[2]) == "--quick";
  if (part == "tests") return tests();
  if (part == "large") return large();
  if (part == "bench") return bench(count > 2 ? arguments[2] : nullptr);
  std::printf("usage: gpu-check device | tests [--quick] | large | bench [file]\n");
  return 2;
}
