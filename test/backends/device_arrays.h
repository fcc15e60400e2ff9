#pragma once
// Typed arrays in device memory: copied in with their byte offset modulo 16, so that odd alignments are real,
// and back on request. Arrays that share memory on the host (gradients in place) share it on the device.
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "backends/device.h"

namespace fg::backend {

class DeviceArrays {
 public:
  /// The host array's twin; null for null. `bytes` of it are copied in.
  template <class T>
  T* in(T* host, int64_t count) {
    return static_cast<T*>(twin(host, size_t(count) * sizeof(T), true));
  }
  /// A twin without contents that back() fills the host array from.
  template <class T>
  T* out(T* host, int64_t count) {
    T* device = static_cast<T*>(twin(host, size_t(count) * sizeof(T), false));
    if (host && count > 0) outputs_.push_back({host, device, size_t(count) * sizeof(T), sizeof(T)});
    return device;
  }
  /// Both: what the kernel does not write stays.
  void* in_out(void* host, size_t bytes) {
    void* device = twin(host, bytes, true);
    if (host && bytes > 0) outputs_.push_back({host, device, bytes, 0});
    return device;
  }
  void* twin(const void* host, size_t bytes, bool contents) {
    if (!host) return nullptr;
    auto& buffer = buffers_[host];
    if (!buffer) {
      buffer = std::make_unique<Buffer>(bytes, reinterpret_cast<uintptr_t>(host) % 16);
      if (contents) copy_in(buffer->as<void>(), host, bytes);
    }
    return buffer->as<void>();
  }
  void* scratch(size_t bytes) {
    scratch_.push_back(std::make_unique<Buffer>(bytes));
    return scratch_.back()->as<void>();
  }

  /// Copies outputs to the host. `complete`: the op has succeeded and must have written all of them.
  void back(bool complete) {
    for (const auto& [_, buffer] : buffers_) check_margins(buffer->as<void>());
    for (const auto& buffer : scratch_) check_margins(buffer->as<void>());
    for (const auto& o : outputs_) {
      if (complete && o.unit > 0 && !written(o.device, o.bytes, o.unit))
        throw Violation("output not written", "an output was not written");
      copy_out(o.host, o.device, o.bytes);
    }
  }

 private:
  struct Output {
    void *host, *device;
    size_t bytes, unit;  // unit 0: it has had contents from the start
  };
  std::map<const void*, std::unique_ptr<Buffer>> buffers_;
  std::vector<std::unique_ptr<Buffer>> scratch_;
  std::vector<Output> outputs_;
};

}  // namespace fg::backend
