#include "torch/cuda_self_test.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/scalar.h"

namespace fg {
namespace {

// Few rows, but a vocabulary that ends in the middle of a vector, rows at odd addresses, one row masked, two sequences.
constexpr int64_t kRows = 4, kVocab = 1003, kMasked = 2;

struct SelfTestBatch {
  DType dtype;
  std::vector<unsigned char> logits;
  std::vector<int32_t> offsets{0, 1, kRows}, targets{0, 700, 5, kVocab - 1};
  std::vector<uint8_t> mask{1, 1, 0, 1};
  std::vector<float> old_logps{-17.3f, -16.8f, -1.0f, -13.2f},
      ref_logps{-17.0f, -16.2f, -1.0f, -13.5f};  // near the batch's own
  std::vector<float> advantages{1.25f, -0.75f};
};

struct SelfTestResult {
  std::vector<float> logps, entropies, gradient;
  kernels::Status status;
  double loss = 0, kl = 0;
};

float stored(const unsigned char* data, DType dtype, int64_t i) {
  if (dtype == DType::f32) return load(reinterpret_cast<const float*>(data) + i);
  return load(reinterpret_cast<const bf16*>(data) + i);
}

SelfTestBatch make_batch(DType dtype) {
  SelfTestBatch b{dtype, std::vector<unsigned char>(size_t(kRows * kVocab * size_of(dtype)))};
  uint32_t state = 12345;
  for (int64_t i = 0; i < kRows * kVocab; ++i) {
    state = state * 1664525u + 1013904223u;
    const float v = float(state >> 8) * (12.0f / 16777216.0f) - 6.0f;
    if (dtype == DType::f32)
      store(reinterpret_cast<float*>(b.logits.data()) + i, v);
    else
      store(reinterpret_cast<bf16*>(b.logits.data()) + i, v);
  }
  return b;
}

/// One token at a time, or in two phases with a ratio per sequence and a quantile of the batch.
LossParams make_params(bool sequences) {
  LossParams p;
  p.beta = 0.04;
  if (!sequences) return p;
  p.loss_type = LossType::grpo;
  p.level = RatioLevel::sequence;
  p.epsilon_low = p.epsilon_high = 0.9;
  p.top_entropy_quantile = 0.7;
  return p;
}

/// The op's arguments but for memory, which differs between the two sides.
kernels::GrpoLossArgs scalars(DType dtype) {
  kernels::GrpoLossArgs a;
  a.batch.layout.rows = kRows, a.batch.layout.sequences = 2;
  a.batch.normalizer = double(kRows - 1), a.batch.entropy_weight = 0.01;
  a.logits = {nullptr, dtype, kVocab, kVocab, 0};
  a.temperature = 0.9;
  a.want_entropy = true;
  return a;
}

void widen(const std::vector<unsigned char>& from, DType dtype, std::vector<float>* to) {
  to->resize(size_t(kRows * kVocab));
  for (int64_t i = 0; i < kRows * kVocab; ++i) (*to)[size_t(i)] = stored(from.data(), dtype, i);
}

SelfTestResult on_cpu(const LossParams& params, SelfTestBatch b) {
  SelfTestResult r;
  r.logps.resize(kRows), r.entropies.resize(kRows);
  std::vector<kernels::TokenRecord> records(kRows);
  kernels::GrpoLossArgs a = scalars(b.dtype);
  a.batch.layout.offsets = b.offsets.data(), a.batch.layout.mask = b.mask.data();
  a.batch.old_logps = b.old_logps.data(), a.batch.ref_logps = b.ref_logps.data();
  a.batch.advantages = b.advantages.data();
  a.targets = b.targets.data(), a.logits.data = b.logits.data(), a.grad = a.logits;
  a.logps = r.logps.data(), a.entropies = r.entropies.data(), a.records = records.data();
  Context context;
  context.parallel_for = [](int64_t n, int64_t chunk, RangeBody body, void* state) {
    for (int64_t i = 0; i < n; i += chunk) body(state, i, i + chunk < n ? i + chunk : n);
  };
  kernels::PolicyMetrics metrics;
  r.status = kernels::grpo_loss(context, params, a, &metrics);
  r.loss = metrics.loss, r.kl = metrics.kl;
  widen(b.logits, b.dtype, &r.gradient);
  return r;
}

template <class T>
T* copied(DeviceMemory& memory, const std::vector<T>& from) {
  void* to = memory.allocate(from.size() * sizeof(T));
  memory.to_device(to, from.data(), from.size() * sizeof(T));
  return static_cast<T*>(to);
}

cuda::Launch on_device(DeviceMemory& memory, const LossParams& params, SelfTestBatch b, SelfTestResult* r) {
  kernels::GrpoLossArgs a = scalars(b.dtype);
  a.batch.layout.offsets = copied(memory, b.offsets), a.batch.layout.mask = copied(memory, b.mask);
  a.batch.old_logps = copied(memory, b.old_logps), a.batch.ref_logps = copied(memory, b.ref_logps);
  a.batch.advantages = copied(memory, b.advantages);
  a.targets = copied(memory, b.targets), a.logits.data = copied(memory, b.logits), a.grad = a.logits;
  a.logps = static_cast<float*>(memory.allocate(kRows * sizeof(float)));
  a.entropies = static_cast<float*>(memory.allocate(kRows * sizeof(float)));
  void* workspace = memory.allocate(cuda::workspace_bytes(kRows));
  auto* outcome = static_cast<cuda::Outcome*>(memory.allocate(sizeof(cuda::Outcome)));
  Context context{};
  context.stream = memory.stream();
  const cuda::Launch launch = cuda::grpo_loss(context, params, a, nullptr, workspace, outcome);
  if (!launch.ok()) return launch;
  cuda::Outcome o;
  r->logps.resize(kRows), r->entropies.resize(kRows);
  memory.to_host(&o, outcome, sizeof o);
  memory.to_host(r->logps.data(), a.logps, kRows * sizeof(float));
  memory.to_host(r->entropies.data(), a.entropies, kRows * sizeof(float));
  memory.to_host(b.logits.data(), a.logits.data, b.logits.size());
  r->status = o.status, r->loss = o.metrics.loss, r->kl = o.metrics.kl;
  widen(b.logits, b.dtype, &r->gradient);
  return launch;
}

std::string differs(const char* what, int64_t at, double device, double cpu) {
  char text[160];
  std::snprintf(text, sizeof text, "%s[%lld] is %.9g on the device and %.9g on the CPU", what,
                static_cast<long long>(at), device, cpu);
  return text;
}

/// The first element further away than absolute + relative * |cpu|; NaN is far from everything.
std::string compare(const char* what, const std::vector<float>& device, const std::vector<float>& cpu, double absolute,
                    double relative) {
  for (size_t i = 0; i < cpu.size(); ++i)
    if (!(std::abs(double(device[i]) - cpu[i]) <= absolute + relative * std::abs(double(cpu[i]))))
      return differs(what, int64_t(i), device[i], cpu[i]);
  return {};
}

std::string compare(const SelfTestResult& device, const SelfTestResult& cpu, DType dtype) {
  if (!device.status.ok()) return "the device found a fault in good data";
  const double stored = dtype == DType::f32 ? 2e-5 : 1.0 / 128;  // bfloat16: a rounding may fall the other way
  std::string found = compare("logps", device.logps, cpu.logps, 1e-5, 1e-5);
  if (found.empty()) found = compare("entropies", device.entropies, cpu.entropies, 1e-5, 1e-5);
  if (found.empty()) found = compare("gradLogits", device.gradient, cpu.gradient, 1e-9, stored);
  if (found.empty()) found = compare("loss", {float(device.loss)}, {float(cpu.loss)}, 1e-5, 1e-5);
  if (found.empty()) found = compare("kl", {float(device.kl)}, {float(cpu.kl)}, 1e-5, 1e-4);
  for (int64_t i = 0; i < kVocab && found.empty(); ++i)
    if (const float g = device.gradient[size_t(kMasked * kVocab + i)]; g != 0)
      found = differs("gradLogits of the masked row, element ", i, g, 0);
  return found;
}

std::string compare_both(DeviceMemory& memory, const LossParams& params, DType dtype) {
  const SelfTestBatch batch = make_batch(dtype);
  SelfTestResult device;
  const cuda::Launch launch = on_device(memory, params, batch, &device);
  if (launch.ok()) return compare(device, on_cpu(params, batch), dtype);
  return std::string(launch.what ? launch.what : "a launch") + " failed with CUDA error " + std::to_string(launch.code);
}

}  // namespace

std::string cuda_self_test(DeviceMemory& memory) {
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const bool sequences : {false, true}) {
      const std::string found = compare_both(memory, make_params(sequences), dtype);
      if (!found.empty())
        return std::string(dtype == DType::f32 ? "float32" : "bfloat16") + (sequences ? ", sequences: " : ": ") + found;
    }
  return {};
}

}  // namespace fg
