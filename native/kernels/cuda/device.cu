// The current device's description (in the simulator: test/simulator/device.cc).
#if defined(__CUDACC__)
#include "kernels/cuda/platform_nvidia.h"

namespace fg::cuda {

Device current_device() {
  static thread_local Device cached[64];
  static thread_local bool known[64] = {};
  int id = 0;
  Device d;
  d.code = int(cudaGetDevice(&id));
  if (d.code != 0) {
    (void)cudaGetLastError();
    return d;
  }
  if (id < 64 && known[id]) return cached[id];
  const auto ask = [&](cudaDeviceAttr attribute) {
    int v = 0;
    const cudaError_t e = cudaDeviceGetAttribute(&v, attribute, id);
    if (e != cudaSuccess) d.code = int(e);
    return v;
  };
  d.major = ask(cudaDevAttrComputeCapabilityMajor);
  d.minor = ask(cudaDevAttrComputeCapabilityMinor);
  d.multiprocessors = ask(cudaDevAttrMultiProcessorCount);
  d.shared_per_block = size_t(ask(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  d.shared_per_multiprocessor = size_t(ask(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  d.l2_bytes = size_t(ask(cudaDevAttrL2CacheSize));
  if (d.code == 0 && id < 64) cached[id] = d, known[id] = true;
  return d;
}

}  // namespace fg::cuda
#endif
