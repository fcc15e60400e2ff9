#pragma once
// What a call runs on.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "capi/fused_grpo.h"
#include "kernels/context.h"
#include "parallel/pool.h"

struct fg_pool {
  fg::Pool threads;
};

namespace fg::capi {

/// Where a call runs: on the CPU, by the caller's pool, threads of the call's own or the calling thread alone; or on
/// the GPU, whose memory the host reads through here.
class Runner {
 public:
  explicit Runner(const fg_exec* exec);
  static Runner on_gpu(void* stream);
  bool gpu() const { return gpu_; }
  void* stream() const { return stream_; }
  /// Of the CPU. Starts the call's own threads: everything else has been checked.
  Context context() const;

  /// Memory that the op was given, as the host can read it: itself, or a copy that lives as long as this.
  template <class T>
  const T* on_host(const T* data, int64_t count) {
    return static_cast<const T*>(copy(data, size_t(count) * sizeof(T)));
  }
  template <class T>
  T element(const T* data, int64_t index) const {
    T out;
    read(&out, data + index, sizeof out);
    return out;
  }
  size_t scratch_bytes(size_t on_cpu, int64_t rows) const;

 private:
  Runner() = default;
  const void* copy(const void* data, size_t bytes);
  void read(void* to, const void* from, size_t bytes) const;

  int wanted_ = 1;
  Pool* given_ = nullptr;
  mutable std::unique_ptr<Pool> own_;
  bool gpu_ = false;
  void* stream_ = nullptr;
  std::vector<std::vector<double>> copies_;
};

}  // namespace fg::capi
