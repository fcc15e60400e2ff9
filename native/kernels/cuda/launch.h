#pragma once
// Launching, from the host. The only way to start a kernel: it checks, names, and runs in the simulator as well.
#include <cstddef>
#include <cstdint>

namespace fg::cuda {

/// What came of queueing work on a stream. `code` is a cudaError_t; 0: queued.
struct Launch {
  int code = 0;
  const char* what = nullptr;  // the kernel or call
  const char* file = nullptr;
  int line = 0;
  bool ok() const { return code == 0; }
};

struct Shape {
  int64_t blocks = 1;
  int threads = 256;
  int cluster = 1;    // blocks of a cluster; `blocks` is a multiple of it
  size_t shared = 0;  // dynamic bytes per block
};

/// What kernel selection looks at; of the current device.
struct Device {
  int code = 0;  // not 0: no device answers
  int major = 0, minor = 0;
  int multiprocessors = 0;
  size_t shared_per_block = 0;  // dynamic bytes that a kernel may ask for
  size_t shared_per_multiprocessor = 0;
  size_t l2_bytes = 0;
};
Device current_device();

/// Clusters of that shape that the device holds at once, at least 1.
template <class Args>
int64_t resident_clusters(void (*kernel)(Args), const Shape& shape);

}  // namespace fg::cuda

// FG_LAUNCH(kernel, shape, stream, args): queues `kernel(args)`; the value is a Launch.
#define FG_LAUNCH(kernel, shape, stream, args) \
  ::fg::cuda::launch(kernel, #kernel, __FILE__, __LINE__, shape, stream, args)
