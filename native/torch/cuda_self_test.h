#pragma once
// Does this device compute what the CPU computes? A tiny grpo_loss on both, before anybody trusts the device.
#include <cstddef>
#include <string>

namespace fg {

/// Memory of a device, as far as the self-test needs it: the GPU's, or a simulator's.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* allocate(size_t bytes) = 0;  // 256-byte aligned; freed with this object
  virtual void to_device(void* to, const void* from, size_t bytes) = 0;
  virtual void to_host(void* to, const void* from, size_t bytes) = 0;  // once all queued work is done
  virtual void* stream() = 0;
};

/// Empty: the device agrees with the CPU kernels. Otherwise the first difference, or the call that failed.
std::string cuda_self_test(DeviceMemory& memory);

}  // namespace fg
