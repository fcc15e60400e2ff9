// backends/device.h on the simulated device, and what only the simulator can tell: lastLaunches().
#include "backends/device.h"

#include "backends/exports.h"
#include "simulator/sim.h"

namespace fg::backend {

const char* const kName = "cuda-simulated";
const char* const kViolationCode = "ERR_SIMULATION";

void configure(const Settings& s) {
  sim::set_seed(s.seed);
  if (!s.arch.empty()) sim::set_device(sim::preset(s.arch, s.multiprocessors));
}
Context context() { return {nullptr, nullptr}; }
std::string error_text(int code) { return "code " + std::to_string(code); }

void* allocate(size_t bytes, size_t offset) { return sim::allocate(bytes, offset); }
void release(void* pointer) noexcept { sim::release(pointer); }
void copy_in(void* device, const void* host, size_t bytes) { sim::copy_in(device, host, bytes); }
void copy_out(void* host, const void* device, size_t bytes) { sim::copy_out(host, device, bytes); }
bool written(const void* device, size_t bytes, size_t) { return sim::initialised(device, bytes); }
void check_margins(const void*) {}  // the access itself was refused

}  // namespace fg::backend

namespace fg::sim {
namespace {

Napi::Object record_object(Napi::Env env, const LaunchRecord& r) {
  auto o = Napi::Object::New(env);
  const auto set = [&](const char* name, double v) { o.Set(name, Napi::Number::New(env, v)); };
  o.Set("kernel", r.kernel);
  set("blocks", double(r.shape.blocks)), set("threads", r.shape.threads), set("cluster", r.shape.cluster);
  set("sharedBytes", double(r.shape.shared)), set("staticSharedBytes", double(r.static_shared));
  set("readBytes", double(r.read_bytes)), set("rereadBytes", double(r.reread_bytes));
  set("writtenBytes", double(r.written_bytes)), set("wideBytes", double(r.wide_bytes));
  set("bulkBytes", double(r.bulk_bytes)), set("accesses", double(r.accesses)), set("atomics", double(r.atomics));
  o.Set("schedule", std::to_string(r.schedule));
  return o;
}

Napi::Value LastLaunches(const Napi::CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  for (const auto& r : take_launches()) list[list.Length()] = record_object(info.Env(), r);
  return list;
}

const backend::Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("lastLaunches", Napi::Function::New(env, LastLaunches));
});

}  // namespace
}  // namespace fg::sim
