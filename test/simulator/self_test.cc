// selfTest() of the test addon: what the engine runs on a user's card when it is loaded, here on the simulated device.
#include "torch/cuda_self_test.h"

#include "simulator/device_arrays.h"
#include "simulator/exports.h"

namespace fg::sim {
namespace {

class SimulatedMemory final : public DeviceMemory {
 public:
  void* allocate(size_t bytes) override { return arrays_.scratch(bytes); }
  void to_device(void* to, const void* from, size_t bytes) override { copy_in(to, from, bytes); }
  void to_host(void* to, const void* from, size_t bytes) override { copy_out(to, from, bytes); }
  void* stream() override { return nullptr; }

 private:
  DeviceArrays arrays_;
};

const Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("selfTest", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
          return simulated(i.Env(), [&] {
            SimulatedMemory memory;
            return Napi::String::New(i.Env(), cuda_self_test(memory));
          });
        }));
});

}  // namespace
}  // namespace fg::sim
