// selfTest() of a test addon: what the engine runs on a user's card when it is loaded.
#include "torch/cuda_self_test.h"

#include "backends/device_arrays.h"
#include "backends/exports.h"

namespace fg::backend {
namespace {

class TestMemory final : public DeviceMemory {
 public:
  void* allocate(size_t bytes) override { return arrays_.scratch(bytes); }
  void to_device(void* to, const void* from, size_t bytes) override { copy_in(to, from, bytes); }
  void to_host(void* to, const void* from, size_t bytes) override { copy_out(to, from, bytes); }
  void* stream() override { return context().stream; }

 private:
  DeviceArrays arrays_;
};

const Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("selfTest", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
          return on_device(i.Env(), [&] {
            TestMemory memory;
            return Napi::String::New(i.Env(), cuda_self_test(memory));
          });
        }));
});

}  // namespace
}  // namespace fg::backend
