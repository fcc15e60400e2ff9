// planted(name, seed?, healthy?) and plantedNames() of the test addon.
#include "simulator/planted.h"

#include "backends/exports.h"
#include "kernels/cuda/launch.h"

namespace fg::sim {

std::vector<float> run_planted(const char* name, void (*kernel)(PlantedArgs), const cuda::Shape& shape, int64_t n) {
  const Buffer data(size_t(n) * 4), ticket(4);
  std::vector<float> host(static_cast<size_t>(n));
  for (size_t i = 0; i < host.size(); ++i) host[i] = float(i);
  const uint32_t zero = 0;
  copy_in(data.as<void>(), host.data(), data.bytes());
  copy_in(ticket.as<void>(), &zero, 4);
  const PlantedArgs args{data.as<float>(), ticket.as<uint32_t>(), n};
  const cuda::Launch l = cuda::launch(kernel, name, __FILE__, __LINE__, shape, nullptr, args);
  if (!l.ok()) throw std::runtime_error("launch refused");
  copy_out(host.data(), data.as<void>(), data.bytes());
  return host;
}

void expect_equal(double got, double want) {
  if (got != want)
    throw std::runtime_error("wrong result: " + std::to_string(got) + " instead of " + std::to_string(want));
}

namespace {

/// The violation's name and message, or null.
Napi::Value run(Napi::Env env, const std::string& name, uint64_t seed, bool healthy) {
  for (const Planted& p : Planted::all()) {
    if (p.name != name) continue;
    set_seed(seed);
    set_device(preset("sm_90"));
    try {
      p.run(!healthy);
      return env.Null();
    } catch (const Violation& v) {
      auto o = Napi::Object::New(env);
      o.Set("name", v.name);
      o.Set("message", v.what());
      return o;
    }
  }
  throw std::runtime_error("no planted bug " + name);
}

const backend::Exports exports([](Napi::Env env, Napi::Object o) {
  o.Set("planted", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
          return guarded(i.Env(), [&] {
            const auto seed = i[1].IsNumber() ? uint64_t(i[1].ToNumber().Int64Value()) : 1;
            return run(i.Env(), i[0].ToString().Utf8Value(), seed, i[2].IsBoolean() && i[2].ToBoolean());
          });
        }));
  o.Set("plantedNames", Napi::Function::New(env, [](const Napi::CallbackInfo& i) {
          auto names = Napi::Array::New(i.Env());
          for (const Planted& p : Planted::all()) names[names.Length()] = Napi::String::New(i.Env(), p.name);
          return names;
        }));
});

}  // namespace
}  // namespace fg::sim
