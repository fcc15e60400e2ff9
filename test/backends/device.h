#pragma once
// The device under the test addons' ops, in two versions: the simulated one (simulator/backend.cc) and a real GPU
// (backends/cuda/device.cc). Everything else of the addons is the same source.
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/context.h"

namespace fg::backend {

/// A mistake found on the device. `name` is stable ("race", "out of bounds", "CUDA error", ...).
struct Violation : std::runtime_error {
  std::string name;
  Violation(std::string n, const std::string& message) : std::runtime_error(message), name(std::move(n)) {}
};

extern const char* const kName;           // what simd() says
extern const char* const kViolationCode;  // `code` of the JavaScript error that a Violation becomes

/// What can be chosen before an op. A GPU is what it is: it takes no seed and refuses an `arch`.
struct Settings {
  uint64_t seed = 0;
  std::string arch;         // empty: as before
  int multiprocessors = 0;  // of that arch; 0: as many as it has
};
void configure(const Settings& settings);

/// Where the ops queue their work; copies wait for it.
Context context();
/// Of a Launch that failed.
std::string error_text(int code);

/// The address is 256-byte aligned plus `offset`. Contents are uninitialised.
void* allocate(size_t bytes, size_t offset = 0);
void release(void* pointer) noexcept;
void copy_in(void* device, const void* host, size_t bytes);
void copy_out(void* host, const void* device, size_t bytes);
/// Whether all of it has been written since allocate(), in units of `unit` bytes.
bool written(const void* device, size_t bytes, size_t unit);

/// Throws where something beside that allocation has been written, if the device has not already done so.
void check_margins(const void* device);

/// Device memory that is given back.
class Buffer {
 public:
  explicit Buffer(size_t bytes, size_t offset = 0) : bytes_(bytes), pointer_(allocate(bytes, offset)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(pointer_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(pointer_);
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  void* pointer_;
};

}  // namespace fg::backend
