// The CUDA ops on a real device against their CPU twins on the same bytes, sizes beyond 32 bits, and timing.
//   gpu-check device | tests [--quick] | large | bench [file]      run by scripts/gpu-check.sh
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/cuda/table.h"

using namespace fg;
using namespace fg::kernels;

namespace {

using Bytes = std::vector<unsigned char>;

bool quick = false;
int passed = 0, failed = 0;

void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(e));
  std::exit(4);
}
#define MUST(call) must(call, #call)

double seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

struct Random {
  uint64_t s;
  uint32_t bits() {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(s >> 32) ^ uint32_t(s >> 51);
  }
  double unit() { return bits() * 0x1p-32; }
  int64_t below(int64_t n) { return int64_t(unit() * double(n)); }
  double near(double v) { return v + 0.04 * (unit() - 0.5); }
  bool chance(double p) { return unit() < p; }
  double normal() { return unit() + unit() + unit() + unit() - 2; }  // nearly: variance 1/3
};

float get(const void* p, DType t, int64_t i) {
  uint16_t h;
  if (t == DType::f32) return static_cast<const float*>(p)[i];
  std::memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
  if (t == DType::bf16) {
    const uint32_t u = uint32_t(h) << 16;
    float v;
    std::memcpy(&v, &u, 4);
    return v;
  }
  const int e = h >> 10 & 31, m = h & 1023;
  const double v = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
  return float(h >> 15 ? -v : v);
}
/// Half formats are truncated: which logits a test uses does not matter.
void put(void* p, DType t, int64_t i, float v) {
  uint32_t u;
  std::memcpy(&u, &v, 4);
  uint16_t h = uint16_t(u >> 16);
  if (t == DType::f32) {
    static_cast<float*>(p)[i] = v;
    return;
  }
  if (t == DType::f16) {
    const int e = int(u >> 23 & 255) - 112;
    const uint16_t sign = uint16_t(u >> 16 & 0x8000);
    h = uint16_t(e <= 0    ? sign
                 : e >= 31 ? sign | 0x7C00 | (std::isnan(v) ? 0x200 : 0)
                           : sign | e << 10 | (u >> 13 & 1023));
  }
  std::memcpy(static_cast<char*>(p) + 2 * i, &h, 2);
}
double ulp(DType t, double v) {
  if (t == DType::f32) return std::ldexp(1.0, std::max(std::ilogb(std::max(std::abs(v), 1e-38)) - 23, -149));
  const int e = std::ilogb(std::max(std::abs(v), 1e-30));
  return t == DType::bf16 ? std::ldexp(1.0, std::max(e - 7, -133)) : std::ldexp(1.0, std::max(e - 10, -24));
}

const Context kHost{[](int64_t n, int64_t chunk, RangeBody body, void* state) {
                      for (int64_t i = 0; i < n; i += chunk) body(state, i, std::min(i + chunk, n));
                    },
                    nullptr};
const Context kStream{nullptr, nullptr};

/// Where an op runs: on the host the arrays themselves, on the device copies that back() brings home.
struct Place {
  bool device;
  struct Block {
    void *host, *memory;
    size_t bytes;
  };
  std::vector<void*> owned;
  std::vector<Block> outputs;
  explicit Place(bool on_device) : device(on_device) {}
  Place(const Place&) = delete;
  ~Place() {
    for (void* p : owned) cudaFree(p);
  }
  void* allocate(size_t bytes) {
    void* p = nullptr;
    MUST(cudaMalloc(&p, bytes + 16));
    owned.push_back(p);
    return p;
  }
  template <class T>
  T* in(const std::vector<T>& v) {
    if (v.empty()) return nullptr;
    if (!device) return const_cast<T*>(v.data());
    void* p = allocate(v.size() * sizeof(T));
    MUST(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    return static_cast<T*>(p);
  }
  template <class T>
  T* out(std::vector<T>* v) {
    // under a sanitizer nothing hides an output that is not written, except bytes: they hold what lies between rows too
    T* p = device && quick && sizeof(T) > 1 && !v->empty() ? static_cast<T*>(allocate(v->size() * sizeof(T))) : in(*v);
    if (device && p) outputs.push_back({v->data(), p, v->size() * sizeof(T)});
    return p;
  }
  /// Under a sanitizer scratch stays as it is, else it is filled with garbage.
  void* workspace(int64_t rows) {
    const size_t bytes = cuda::workspace_bytes(rows);
    void* p = allocate(bytes);
    if (!quick) MUST(cudaMemset(p, int(rows * 37 & 255), bytes));
    return p;
  }
  cuda::Outcome* outcome() {
    void* p = allocate(sizeof(cuda::Outcome));
    MUST(cudaMemset(p, 0xA5, sizeof(cuda::Outcome)));
    return static_cast<cuda::Outcome*>(p);
  }
  cuda::Outcome finish(const cuda::Launch& l, const cuda::Outcome* from) {
    cuda::Outcome o;
    if (!l.ok()) {
      std::printf("launch of %s failed: %s\n", l.what, cudaGetErrorString(cudaError_t(l.code)));
      std::exit(4);
    }
    MUST(cudaDeviceSynchronize());
    MUST(cudaMemcpy(&o, from, sizeof o, cudaMemcpyDeviceToHost));
    for (const Block& b : outputs) MUST(cudaMemcpy(b.host, b.memory, b.bytes, cudaMemcpyDeviceToHost));
    return o;
  }
};

/// One random problem, on the host.
struct Case {
  uint64_t seed = 0;
  DType dtype = DType::f32;
  int64_t vocab = 1, rows = 1, sequences = 1, base = 0;
  Rows shape;  // of the logits; data null
  int64_t grad_base = 0;
  Rows grad_shape;
  Bytes logits, grad;
  std::vector<int32_t> offsets, targets, groups;
  std::vector<uint8_t> mask, truncated;
  std::vector<float> old_logps, ref_logps, advantages, grad_logps, grad_entropies, logps, entropies;
  std::vector<double> rewards;
  AdvantageOptions options;
  LossParams params;
  double temperature = 1, normalizer = 1, entropy_weight = 0;
  bool per_token = false, entropy = false;

  Layout layout(Place& p) const { return {rows, sequences, p.in(offsets), p.in(mask), p.in(truncated)}; }
  int64_t sequence_of(int64_t row) const {
    int64_t s = 0;
    while (!offsets.empty() && offsets[size_t(s + 1)] <= row) ++s;
    return s;
  }
  int64_t at(const Rows& r, int64_t row) const {
    const int64_t s = sequence_of(row);
    return r.at(row, s, row - (offsets.empty() ? 0 : offsets[size_t(s)]));
  }
  bool selected(int64_t row) const {
    return (mask.empty() || mask[size_t(row)]) && (truncated.empty() || !truncated[size_t(sequence_of(row))]);
  }
};

struct Result {
  Status status;
  PolicyMetrics metrics;
  std::vector<float> logps, lse, entropies, advantages, mean, std, grad_logps, grad_entropies;
  std::vector<uint8_t> zero_std;
  Bytes grad;  // with whatever lies between the rows
};

const float kPoison = -12345.0f;
std::vector<float> poisoned(int64_t n) { return std::vector<float>(size_t(n), kPoison); }

Rows with(Rows r, unsigned char* memory, int64_t base) {
  r.data = memory + base * size_of(r.dtype);
  return r;
}

Result run_logp(const Case& c, bool device) {
  Place p(device);
  Result r;
  r.logps = poisoned(c.rows), r.lse = poisoned(c.rows);
  if (c.entropy) r.entropies = poisoned(c.rows);
  SelectiveLogpArgs a;
  a.layout = c.layout(p), a.logits = with(c.shape, p.in(c.logits), c.base);
  a.targets = p.in(c.targets), a.temperature = c.temperature;
  a.logps = p.out(&r.logps), a.lse = p.out(&r.lse), a.entropies = p.out(&r.entropies);
  std::vector<Fault> faults(static_cast<size_t>(c.rows));
  a.faults = faults.data();
  if (!device) return r.status = selective_logp(kHost, a), r;
  auto* o = p.outcome();
  r.status = p.finish(cuda::selective_logp(kStream, a, p.workspace(c.rows), o), o).status;
  return r;
}

/// The gradient's rows: a matrix of its own, or the logits' memory.
Rows place_grad(const Case& c, Place& p, bool in_place, Rows* logits, Result* r) {
  if (in_place) {
    r->grad = c.logits;
    *logits = with(c.shape, p.out(&r->grad), c.base);
    return *logits;
  }
  r->grad = c.grad;
  *logits = with(c.shape, p.in(c.logits), c.base);
  return with(c.grad_shape, p.out(&r->grad), c.grad_base);
}

Result run_backward(const Case& c, bool device, bool in_place) {
  Place p(device);
  Result r;
  SelectiveLogpBackwardArgs a;
  a.layout = c.layout(p), a.targets = p.in(c.targets), a.temperature = c.temperature;
  a.grad = place_grad(c, p, in_place, &a.logits, &r);
  a.grad_logps = p.in(c.grad_logps), a.grad_entropies = p.in(c.grad_entropies);
  std::vector<Fault> faults(static_cast<size_t>(c.rows));
  a.faults = faults.data();
  if (!device) return r.status = selective_logp_backward(kHost, a), r;
  auto* o = p.outcome();
  r.status = p.finish(cuda::selective_logp_backward(kStream, a, p.workspace(c.rows), o), o).status;
  return r;
}

PolicyBatch batch(const Case& c, Place& p) {
  PolicyBatch b;
  b.layout = c.layout(p), b.old_logps = p.in(c.old_logps), b.ref_logps = p.in(c.ref_logps);
  b.advantages = p.in(c.advantages), b.advantages_per_token = c.per_token;
  b.normalizer = c.normalizer, b.entropy_weight = c.entropy_weight;
  return b;
}

Result run_policy(const Case& c, bool device) {
  Place p(device);
  Result r;
  r.grad_logps = poisoned(c.rows);
  if (c.entropy_weight != 0) r.grad_entropies = poisoned(c.rows);
  PolicyLossArgs a;
  a.batch = batch(c, p), a.logps = p.in(c.logps), a.entropies = p.in(c.entropies);
  a.grad_logps = p.out(&r.grad_logps), a.grad_entropies = p.out(&r.grad_entropies);
  std::vector<TokenRecord> records(static_cast<size_t>(c.rows));
  a.records = records.data();
  if (!device) return r.status = policy_loss(kHost, c.params, a, &r.metrics), r;
  auto* o = p.outcome();
  const cuda::Outcome found = p.finish(cuda::policy_loss(kStream, c.params, a, p.workspace(c.rows), o), o);
  r.status = found.status, r.metrics = found.metrics;
  return r;
}

cuda::GroupAdvantagesArgs advantages_args(const Case& c, Place& p, Result* r) {
  const int64_t groups = int64_t(c.groups.size()) - 1;
  r->advantages = poisoned(c.sequences), r->mean = poisoned(groups), r->std = poisoned(groups);
  r->zero_std.assign(size_t(groups), 77);
  cuda::GroupAdvantagesArgs g;
  g.rewards = p.in(c.rewards), g.count = c.sequences, g.group_offsets = p.in(c.groups), g.groups = groups;
  g.options = c.options, g.advantages = p.out(&r->advantages);
  g.mean = p.out(&r->mean), g.std = p.out(&r->std), g.zero_std = p.out(&r->zero_std);
  return g;
}

Status host_advantages(const cuda::GroupAdvantagesArgs& g) {
  std::vector<double> workspace(group_advantages_workspace(g.count) / 8 + 1);
  return group_advantages(g.rewards, g.count, g.group_offsets, g.groups, g.options, g.advantages, g.mean, g.std,
                          g.zero_std, workspace.data());
}

Result run_advantages(const Case& c, bool device) {
  Place p(device);
  Result r;
  const cuda::GroupAdvantagesArgs g = advantages_args(c, p, &r);
  if (!device) return r.status = host_advantages(g), r;
  auto* o = p.outcome();
  r.status = p.finish(cuda::group_advantages(kStream, g, p.workspace(c.sequences), o), o).status;
  return r;
}

Result run_grpo(const Case& c, bool device, bool in_place) {
  Place p(device);
  Result r;
  r.logps = poisoned(c.rows), r.lse = poisoned(c.rows);
  if (c.entropy) r.entropies = poisoned(c.rows);
  GrpoLossArgs a;
  a.batch = batch(c, p), a.grad = place_grad(c, p, in_place, &a.logits, &r);
  a.targets = p.in(c.targets), a.temperature = c.temperature, a.want_entropy = c.entropy;
  a.logps = p.out(&r.logps), a.lse = p.out(&r.lse), a.entropies = p.out(&r.entropies);
  cuda::GroupAdvantagesArgs g;
  const bool fused = !c.rewards.empty() && !c.per_token;
  if (fused) g = advantages_args(c, p, &r), a.batch.advantages = g.advantages;
  std::vector<TokenRecord> records(static_cast<size_t>(c.rows));
  a.records = records.data();
  if (!device) {
    if (fused && !(r.status = host_advantages(g)).ok()) return r;
    return r.status = grpo_loss(kHost, c.params, a, &r.metrics), r;
  }
  auto* o = p.outcome();
  const cuda::Outcome found =
      p.finish(cuda::grpo_loss(kStream, c.params, a, fused ? &g : nullptr, p.workspace(c.rows), o), o);
  r.status = found.status, r.metrics = found.metrics;
  return r;
}

// ---- cases

Rows random_rows(Random& d, const Case& c, int64_t longest, int64_t* base, size_t* bytes) {
  Rows r{nullptr, c.dtype, c.vocab, c.vocab + (d.chance(0.5) ? d.below(10) : 0), 0};
  if (!c.offsets.empty() && d.chance(0.3))
    r.sequence_stride = std::max<int64_t>(longest, 1) * r.row_stride + d.below(9);
  *base = d.chance(0.6) ? d.below(9) : 0;
  int64_t last = 0;
  for (int64_t i = 0; i < c.rows; ++i) last = std::max(last, c.at(r, i));
  *bytes = size_t((*base + last + c.vocab + d.below(9)) * size_of(c.dtype));
  return r;
}

Case make_case(uint64_t seed, int64_t vocab) {
  Random d{seed * 0x9E3779B97F4A7C15ull + 1};
  for (int i = 0; i < 4; ++i) d.bits();
  Case c;
  c.seed = seed, c.vocab = vocab;
  c.dtype = DType(seed % 3);
  const int64_t most = quick ? 4 : vocab <= 1000 ? 40 : vocab <= 4097 ? 20 : vocab <= 50257 ? 8 : 4;
  c.rows = 1 + d.below(most);
  int64_t longest = c.rows;
  if (d.chance(0.8)) {
    c.sequences = 1 + d.below(std::min<int64_t>(c.rows, 8));
    c.offsets.push_back(0);
    for (int64_t s = 1; s < c.sequences; ++s) c.offsets.push_back(int32_t(d.below(c.rows + 1)));
    c.offsets.push_back(int32_t(c.rows));
    std::sort(c.offsets.begin(), c.offsets.end());
    longest = 0;
    for (size_t s = 0; s + 1 < c.offsets.size(); ++s)
      longest = std::max<int64_t>(longest, c.offsets[s + 1] - c.offsets[s]);
  }
  size_t bytes = 0, grad_bytes = 0;
  c.shape = random_rows(d, c, longest, &c.base, &bytes);
  c.grad_shape = random_rows(d, c, longest, &c.grad_base, &grad_bytes);
  c.logits.assign(bytes, 0x5A), c.grad.assign(grad_bytes, 0x3C);
  if (d.chance(0.6))
    for (int64_t i = 0; i < c.rows; ++i) c.mask.push_back(d.chance(0.75));
  if (d.chance(0.2))
    for (int64_t i = 0; i < c.sequences; ++i) c.truncated.push_back(d.chance(0.25));
  const double spread = d.chance(0.2) ? 25 : 5;
  for (int64_t i = 0; i < c.rows; ++i) {
    void* row = c.logits.data() + (c.base + c.at(c.shape, i)) * size_of(c.dtype);
    const bool use = c.selected(i);
    for (int64_t j = 0; j < vocab; ++j) put(row, c.dtype, j, use ? float(spread * d.normal()) : NAN);  // never read
    c.targets.push_back(int32_t(d.below(vocab)));
    if (use && d.chance(0.5)) put(row, c.dtype, c.targets.back(), float(2 * spread));  // a likely token
  }
  c.temperature = d.chance(0.3) ? 1 : 0.6 + d.unit();
  c.entropy_weight = d.chance(0.4) ? 0.02 * d.unit() : 0;
  c.entropy = c.entropy_weight != 0 || d.chance(0.3);
  c.params.loss_type = LossType(d.below(4)), c.params.kl = KlEstimator(d.below(3));
  c.params.bias_correction_kl = d.chance(0.5), c.params.beta = d.chance(0.5) ? 0.04 : 0;
  c.params.delta = d.chance(0.3) ? 1.5 : kNoDelta;
  Place host(false);
  c.normalizer = default_normalizer(c.params.loss_type, c.layout(host), 64, false);
  // old and reference log-probs near the batch's own, and away from where the clip's derivative jumps
  const Result own = run_logp(c, false);
  const double away[] = {-0.5, -0.1, 0.0, 0.1, 0.3, 0.55};
  const bool old = d.chance(0.7);
  for (int64_t i = 0; i < c.rows; ++i) {
    const bool use = c.selected(i);
    const float logp = own.logps[size_t(i)];
    if (old) c.old_logps.push_back(use ? float(logp - d.near(away[d.below(6)])) : NAN);
    if (c.params.beta != 0) c.ref_logps.push_back(use ? float(logp + 0.6 * d.normal()) : NAN);
    c.grad_logps.push_back(d.chance(0.1) ? 0 : float(2 * d.normal()));
    c.entropies.push_back(use ? float(3 * d.unit()) : 0);
    c.logps.push_back(use ? logp : 0);
  }
  if (d.chance(0.4))
    for (int64_t i = 0; i < c.rows; ++i) c.grad_entropies.push_back(float(0.1 * d.normal()));
  c.per_token = d.chance(0.25);
  for (int64_t i = 0; i < (c.per_token ? c.rows : c.sequences); ++i) c.advantages.push_back(float(1.5 * d.normal()));
  if (d.chance(0.5)) {
    for (int64_t i = 0; i < c.sequences; ++i) c.rewards.push_back(d.chance(0.3) ? 1.0 : 3 * d.normal());
    c.groups.push_back(0);
    while (c.groups.back() < c.sequences)
      c.groups.push_back(int32_t(std::min(c.sequences, c.groups.back() + 2 + d.below(4))));
    c.options.scale = RewardScale(d.below(3)), c.options.transform = RewardTransform(d.below(2));
    c.options.baseline = Baseline(std::array<int, 3>{0, 2, 3}[size_t(d.below(3))]);
  }
  return c;
}

// ---- comparison

std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string text(const char* format, ...) {
  char buffer[300];
  va_list list;
  va_start(list, format);
  std::vsnprintf(buffer, sizeof buffer, format, list);
  va_end(list);
  return buffer;
}

std::string differ(const char* what, const std::vector<float>& device, const std::vector<float>& cpu,
                   double tolerance) {
  for (size_t i = 0; i < cpu.size(); ++i)
    if (!(std::abs(double(device[i]) - cpu[i]) <= tolerance * std::max(1.0, std::abs(double(cpu[i])))))
      return text("%s[%zu]: device %.9g, CPU %.9g", what, i, device[i], cpu[i]);
  return {};
}

std::string differ_number(const char* what, double device, double cpu, double tolerance) {
  if (device == cpu || std::abs(device - cpu) <= tolerance) return {};
  return text("%s: device %.12g, CPU %.12g", what, device, cpu);
}

/// Rows by tolerance, masked rows exactly 0, everything between the rows as it was.
std::string differ_grad(const Case& c, const Bytes& device, const Bytes& cpu, const Rows& shape, int64_t base,
                        const std::vector<float>& slack) {
  Bytes between = cpu;
  const int64_t size = size_of(c.dtype);
  for (int64_t i = 0; i < c.rows; ++i) {
    const int64_t first = (base + c.at(shape, i)) * size;
    std::memcpy(between.data() + first, device.data() + first, size_t(c.vocab * size));
    const unsigned char *a = device.data() + first, *b = cpu.data() + first;
    double largest = 0;
    for (int64_t j = 0; j < c.vocab; ++j) largest = std::max(largest, std::abs(double(get(b, c.dtype, j))));
    for (int64_t j = 0; j < c.vocab; ++j) {
      const double x = get(a, c.dtype, j), y = get(b, c.dtype, j);
      if (!c.selected(i)
              ? x == 0
              : x == y || std::abs(x - y) <=
                              2e-5 * largest + ulp(c.dtype, std::max(std::abs(x), std::abs(y))) + slack[size_t(i)])
        continue;
      return text("gradient[%lld][%lld]: device %.9g, CPU %.9g (largest %.3g, slack %.3g)%s", (long long)i,
                  (long long)j, x, y, largest, slack[size_t(i)], c.selected(i) ? "" : ", a masked row");
    }
  }
  return between == device ? "" : "gradient: memory between the rows was written";
}

std::string differ_metrics(const PolicyMetrics& a, const PolicyMetrics& b, double logp) {
  if (a.tokens != b.tokens || a.sequences != b.sequences || a.clipped_low != b.clipped_low ||
      a.clipped_high != b.clipped_high)
    return text("counts: device %lld %lld %lld %lld, CPU %lld %lld %lld %lld", (long long)a.tokens,
                (long long)a.sequences, (long long)a.clipped_low, (long long)a.clipped_high, (long long)b.tokens,
                (long long)b.sequences, (long long)b.clipped_low, (long long)b.clipped_high);
  const double n = double(std::max<int64_t>(1, b.tokens)), slack = 2e-6 * logp;
  std::string f = differ_number("loss", a.loss, b.loss, 1e-5 * std::max(1.0, std::abs(b.loss)) + slack);
  if (f.empty()) f = differ_number("kl", a.kl, b.kl, n * (2e-5 + slack));
  if (f.empty()) f = differ_number("entropy", a.entropy, b.entropy, 2e-5 * n + 2e-5 * std::abs(b.entropy));
  if (f.empty()) f = differ_number("ratio", a.ratio, b.ratio, n * (2e-5 + 2 * slack));
  if (f.empty()) f = differ_number("ratio_min", a.ratio_min, b.ratio_min, 2e-5 + 2 * slack);
  if (f.empty()) f = differ_number("ratio_max", a.ratio_max, b.ratio_max, 2e-5 + 2 * slack);
  return f;
}

/// NaN-free by construction, so bytes of equal runs are equal.
bool same(const Result& a, const Result& b) {
  return a.grad == b.grad && a.logps == b.logps && a.lse == b.lse && a.entropies == b.entropies &&
         a.advantages == b.advantages && a.grad_logps == b.grad_logps && a.grad_entropies == b.grad_entropies &&
         a.metrics.loss == b.metrics.loss && a.metrics.kl == b.metrics.kl && a.metrics.entropy == b.metrics.entropy &&
         a.metrics.ratio == b.metrics.ratio;
}

std::string differ_values(const Result& a, const Result& b) {
  if (a.status.fault != b.status.fault || a.status.row != b.status.row)
    return text("fault: device %d in row %lld, CPU %d in row %lld", int(a.status.fault), (long long)a.status.row,
                int(b.status.fault), (long long)b.status.row);
  std::string f = differ("advantages", a.advantages, b.advantages, 1e-5);
  if (f.empty()) f = differ("mean", a.mean, b.mean, 1e-5);
  if (f.empty()) f = differ("std", a.std, b.std, 1e-5);
  if (f.empty() && a.zero_std != b.zero_std) f = "zero_std differs";
  if (f.empty()) f = differ("logps", a.logps, b.logps, 2e-5);
  if (f.empty()) f = differ("lse", a.lse, b.lse, 2e-5);
  if (f.empty()) f = differ("entropies", a.entropies, b.entropies, 2e-5);
  if (f.empty()) f = differ("grad_logps", a.grad_logps, b.grad_logps, 1e-5);
  if (f.empty()) f = differ("grad_entropies", a.grad_entropies, b.grad_entropies, 1e-5);
  return f;
}

void report(const Case& c, const char* op, const char* variant, const std::string& found) {
  if (found.empty()) {
    ++passed;
    return;
  }
  if (++failed <= 20)
    std::printf("FAILED %s (%s), seed %llu, dtype %d, %lld rows of %lld, stride %lld, base %lld: %s\n", op, variant,
                (unsigned long long)c.seed, int(c.dtype), (long long)c.rows, (long long)c.vocab,
                (long long)c.shape.row_stride, (long long)c.base, found.c_str());
}

template <class Run, class More>
void check(const Case& c, const char* op, const char* variant, const Result& cpu, Run run, More more) {
  const Result device = run();
  std::string found = differ_values(device, cpu);
  if (found.empty()) found = more(device);
  if (found.empty() && !same(device, run())) found = "a repetition gives other bits";
  report(c, op, variant, found);
}

std::string nothing_more(const Result&) { return {}; }

void check_faults(const Case& good, const char* variant) {
  Case c = good;
  int64_t row = c.rows - 1;
  while (row >= 0 && !c.selected(row)) --row;
  if (row < 0) return;
  put(c.logits.data(), c.dtype, c.base + c.at(c.shape, row) + c.vocab / 2, NAN);
  for (const bool in_place : {false, true}) {
    const Result r = run_grpo(c, true, in_place);
    std::string found;
    if (r.status.fault != Fault::logits || r.status.row != row)
      found = text("a NaN in row %lld gave fault %d in row %lld", (long long)row, int(r.status.fault),
                   (long long)r.status.row);
    const int64_t at = in_place ? c.base + c.at(c.shape, row) : c.grad_base + c.at(c.grad_shape, row);
    for (int64_t j = 0; j < c.vocab && found.empty(); ++j)
      if (get(r.grad.data(), c.dtype, at + j) != 0) found = "the bad row's gradient is not 0";
    report(c, in_place ? "NaN row, in place" : "NaN row", variant, found);
  }
  const Result forward = run_logp(c, true);
  report(c, "NaN row, selective_logp", variant,
         forward.status.fault == Fault::logits && forward.status.row == row ? "" : "the fault does not name the row");
  if (quick) return;  // a bad target leaves outputs unwritten, which initcheck reports
  c = good;
  c.targets[size_t(row)] = int32_t(c.vocab);
  const Result r = run_grpo(c, true, false);
  report(c, "bad target", variant,
         r.status.fault != Fault::target || r.status.row != row ? "the fault does not name the row"
         : r.grad != c.grad                                     ? "the gradient was written"
                                                                : "");
}

void check_case(const Case& c, const std::vector<const char*>& variants) {
  const auto n = static_cast<size_t>(c.rows);
  const Result logp = run_logp(c, false), policy = run_policy(c, false);
  const Result grpo[] = {run_grpo(c, false, false), run_grpo(c, false, true)};
  const Result backward[] = {run_backward(c, false, false), run_backward(c, false, true)};
  double deepest = 1;
  std::vector<float> grpo_slack(n), backward_slack(n);
  for (size_t i = 0; i < n; ++i) {
    const double l = 2e-6 * std::max(1.0, std::abs(double(logp.logps[i]))) / std::min(1.0, c.temperature);
    deepest = std::max(deepest, std::abs(double(logp.logps[i])));
    const int64_t s = c.sequence_of(int64_t(i));
    const double advantage =
        !c.rewards.empty() && !c.per_token ? grpo[0].advantages[size_t(s)] : c.advantages[c.per_token ? i : size_t(s)];
    const int64_t length = c.offsets.empty() ? c.rows : c.offsets[size_t(s + 1)] - c.offsets[size_t(s)];
    const double weight =
        token_weight(c.params.loss_type, c.normalizer, c.params.loss_type == LossType::grpo ? 1 : length);
    grpo_slack[i] = float(l * (weight * (2 * std::abs(advantage) + 4 * c.params.beta) + c.entropy_weight));
    backward_slack[i] =
        float(l * (std::abs(c.grad_logps[i]) + (c.grad_entropies.empty() ? 0 : std::abs(c.grad_entropies[i]))));
  }
  if (!c.rewards.empty())
    check(c, "group_advantages", "-", run_advantages(c, false), [&] { return run_advantages(c, true); }, nothing_more);
  check(
      c, "policy_loss", "-", policy, [&] { return run_policy(c, true); },
      [&](const Result& r) { return differ_metrics(r.metrics, policy.metrics, 1); });
  for (const char* variant : variants) {
    cuda::force_variant(variant);
    if (variant == variants[0])  // forward only: one kernel for all
      check(c, "selective_logp", variant, logp, [&] { return run_logp(c, true); }, nothing_more);
    for (const bool in_place : {false, true}) {
      const Rows& shape = in_place ? c.shape : c.grad_shape;
      const int64_t base = in_place ? c.base : c.grad_base;
      check(
          c, in_place ? "grpo_loss in place" : "grpo_loss", variant, grpo[in_place],
          [&] { return run_grpo(c, true, in_place); },
          [&](const Result& r) {
            std::string f = differ_metrics(r.metrics, grpo[in_place].metrics, deepest);
            return f.empty() ? differ_grad(c, r.grad, grpo[in_place].grad, shape, base, grpo_slack) : f;
          });
      check(
          c, in_place ? "selective_logp_backward in place" : "selective_logp_backward", variant, backward[in_place],
          [&] { return run_backward(c, true, in_place); },
          [&](const Result& r) {
            return differ_grad(c, r.grad, backward[in_place].grad, shape, base, backward_slack);
          });
    }
    if (c.seed % 4 == 0) check_faults(c, variant);
  }
  cuda::force_variant(nullptr);
}

int finish(const char* part) {
  std::printf("%s: %d passed, %d failed\n", part, passed, failed);
  return failed ? 1 : 0;
}

std::vector<const char*> variants_here() {
  if (cuda::current_device().major >= 9) return {"block", "cluster"};
  return {"block"};
}

int tests() {
  const std::vector<int64_t> all{1, 2, 7, 17, 64, 1000, 4097, 32000, 50257, 128256, 151936, 262144};
  const std::vector<int64_t> few{1, 17, 1000, 4097, 32000, 50257};
  const std::vector<int64_t>& vocabularies = quick ? few : all;
  const uint64_t cases = quick ? 12 : 360;
  const double start = seconds(), budget = quick ? 40 : 120;
  uint64_t seed = 0;
  // every vocabulary meets every format: the format is seed % 3, the vocabulary moves on after three
  for (; seed < cases && seconds() - start < budget; ++seed)
    check_case(make_case(seed, vocabularies[size_t(seed / (quick ? 2 : 3)) % vocabularies.size()]), variants_here());
  std::printf("%llu of %llu cases in %.1f s\n", (unsigned long long)seed, (unsigned long long)cases, seconds() - start);
  if (seed < std::min<uint64_t>(cases, 36) && !quick)
    ++failed, std::printf("FAILED: too slow, not every size was seen\n");
  return finish("tests");
}

// ---- matrices beyond 32 bits, and timing: on the device alone

struct Buffer {
  void* p = nullptr;
  explicit Buffer(size_t bytes) { MUST(cudaMalloc(&p, bytes)); }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(p); }
  template <class T>
  T* as() const {
    return static_cast<T*>(p);
  }
};

/// rows x vocab of repeated random rows: row r is row r % `distinct` of the pattern.
void fill_matrix(void* to, const Bytes& pattern, int64_t rows, int64_t row_bytes) {
  const int64_t distinct = int64_t(pattern.size()) / row_bytes;
  MUST(cudaMemcpy(to, pattern.data(), size_t(std::min(rows, distinct) * row_bytes), cudaMemcpyHostToDevice));
  for (int64_t done = distinct; done < rows; done *= 2)
    MUST(cudaMemcpy(static_cast<char*>(to) + done * row_bytes, to, size_t(std::min(done, rows - done) * row_bytes),
                    cudaMemcpyDeviceToDevice));
}

Bytes pattern_of(DType dtype, int64_t rows, int64_t vocab) {
  Bytes b(size_t(rows * vocab * size_of(dtype)));
  Random d{42};
  for (int64_t i = 0; i < rows * vocab; ++i) put(b.data(), dtype, i, float(6 * d.unit() - 3));
  return b;
}

/// A matrix with everything that grpo_loss needs, one sequence per 8 rows.
struct Problem {
  DType dtype;
  int64_t rows, vocab, sequences;
  Buffer logits, targets, old_logps, advantages, offsets, logps, workspace, outcome;
  Problem(DType t, int64_t n, int64_t v)
      : dtype(t),
        rows(n),
        vocab(v),
        sequences((n + 7) / 8),
        logits(size_t(n * v * size_of(t))),
        targets(size_t(n) * 4),
        old_logps(size_t(n) * 4),
        advantages(size_t(sequences) * 4),
        offsets(size_t(sequences + 1) * 4),
        logps(size_t(n) * 4),
        workspace(cuda::workspace_bytes(n)),
        outcome(sizeof(cuda::Outcome)) {
    std::vector<int32_t> target, offset;
    std::vector<float> old, advantage;
    for (int64_t i = 0; i < n; ++i)
      target.push_back(int32_t(i * 7919 % v)), old.push_back(float(-std::log(double(v)) - 0.3));
    for (int64_t s = 0; s <= sequences; ++s) offset.push_back(int32_t(std::min(n, s * 8)));
    for (int64_t s = 0; s < sequences; ++s) advantage.push_back(s % 2 ? 0.7f : -1.1f);
    upload(targets, target), upload(offsets, offset), upload(old_logps, old), upload(advantages, advantage);
  }
  template <class T>
  void upload(const Buffer& b, const std::vector<T>& v) {
    MUST(cudaMemcpy(b.p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  Layout layout(int64_t first, int64_t count) const {
    if (first == 0 && count == rows) return {rows, sequences, offsets.as<int32_t>(), nullptr, nullptr};
    return {count, 1, nullptr, nullptr, nullptr};
  }
  /// In place, over the rows [first, first + count); a part is one sequence's.
  cuda::Launch grpo(int64_t first, int64_t count) const {
    GrpoLossArgs a;
    a.batch.layout = layout(first, count);
    a.batch.old_logps = old_logps.as<float>() + first, a.batch.advantages = advantages.as<float>() + first / 8;
    a.batch.normalizer = 1;  // gradients that do not vanish in half precision
    a.logits = a.grad = {logits.as<char>() + first * vocab * size_of(dtype), dtype, vocab, vocab, 0};
    a.targets = targets.as<int32_t>() + first, a.logps = logps.as<float>() + first;
    return cuda::grpo_loss(kStream, LossParams{}, a, nullptr, workspace.p, outcome.as<cuda::Outcome>());
  }
  cuda::Launch forward() const {
    SelectiveLogpArgs a;
    a.layout = layout(0, rows), a.logits = {logits.p, dtype, vocab, vocab, 0};
    a.targets = targets.as<int32_t>(), a.logps = logps.as<float>();
    return cuda::selective_logp(kStream, a, workspace.p, outcome.as<cuda::Outcome>());
  }
  cuda::Outcome read() const {
    cuda::Outcome o;
    MUST(cudaDeviceSynchronize());
    MUST(cudaMemcpy(&o, outcome.p, sizeof o, cudaMemcpyDeviceToHost));
    return o;
  }
};

void launched(const cuda::Launch& l) {
  if (l.ok()) return;
  std::printf("launch of %s failed: %s\n", l.what, cudaGetErrorString(cudaError_t(l.code)));
  std::exit(4);
}

struct Slice {
  Bytes grad;
  std::vector<float> logps;
};
Slice slice(const Problem& p, int64_t first, int64_t count) {
  const int64_t row = p.vocab * size_of(p.dtype);
  Slice s{Bytes(size_t(count * row)), std::vector<float>(size_t(count))};
  MUST(cudaMemcpy(s.grad.data(), p.logits.as<char>() + first * row, s.grad.size(), cudaMemcpyDeviceToHost));
  MUST(cudaMemcpy(s.logps.data(), p.logps.as<float>() + first, s.logps.size() * 4, cudaMemcpyDeviceToHost));
  return s;
}

/// The whole matrix at once, then the rows at `firsts` (multiples of 8) eight by eight, which no offset makes large.
void large_case(const char* variant, int64_t rows, int64_t vocab, const std::vector<int64_t>& firsts) {
  cuda::force_variant(variant);
  const Bytes pattern = pattern_of(DType::bf16, 13, vocab);
  const int64_t row = vocab * 2;
  Problem p(DType::bf16, rows, vocab);
  fill_matrix(p.logits.p, pattern, rows, row);
  launched(p.grpo(0, rows));
  const cuda::Outcome o = p.read();
  Case named;
  named.dtype = DType::bf16, named.rows = rows, named.vocab = vocab, named.shape.row_stride = vocab;
  report(named, "large, status and count", variant,
         o.status.ok() && o.metrics.tokens == rows && o.metrics.sequences == p.sequences
             ? ""
             : text("fault %d in row %lld, %lld tokens", int(o.status.fault), (long long)o.status.row,
                    (long long)o.metrics.tokens));
  for (const int64_t first : firsts) {
    const int64_t count = std::min<int64_t>(8, rows - first);
    const Slice whole = slice(p, first, count);
    Problem small(DType::bf16, 8, vocab);
    Bytes again(size_t(count * row));
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(again.data() + i * row, pattern.data() + (first + i) % 13 * row, size_t(row));
    MUST(cudaMemcpy(small.logits.p, again.data(), again.size(), cudaMemcpyHostToDevice));
    MUST(cudaMemcpy(small.targets.p, p.targets.as<int32_t>() + first, size_t(count) * 4, cudaMemcpyDeviceToDevice));
    MUST(cudaMemcpy(small.advantages.p, p.advantages.as<float>() + first / 8, 4, cudaMemcpyDeviceToDevice));
    launched(small.grpo(0, count));
    small.read();
    const Slice part = slice(small, 0, count);
    std::string found = differ("logps", whole.logps, part.logps, 0);
    if (found.empty() && whole.grad != part.grad) found = "gradients differ";
    if (found.empty() && std::all_of(part.grad.begin(), part.grad.end(), [](unsigned char b) { return b == 0; }))
      found = "the gradient is 0";
    named.base = first;
    report(named, "large, rows from `base` on", variant, found);
  }
  cuda::force_variant(nullptr);
}

int large() {
  size_t free_bytes = 0, total = 0;
  MUST(cudaMemGetInfo(&free_bytes, &total));
  for (const char* variant : variants_here()) {
    if (free_bytes < size_t(5) << 30)
      std::printf("large: 14,300 rows of 151,936 skipped, only %.1f GB free\n", double(free_bytes) / 1e9);
    else  // element 2^31 is in row 14,134
      large_case(variant, 14300, 151936, {0, 7064, 14128, 14136, 14288, 14296});
    large_case(variant, 70001, 17, {0, 32768, 65528, 65536, 70000});
    large_case(variant, 200003, 64, {0, 65536, 131072, 200000});
  }
  return finish("large");
}

double median(std::vector<float> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

int bench(const char* path) {
  FILE* file = path ? std::fopen(path, "a") : nullptr;
  cudaDeviceProp device;
  MUST(cudaGetDeviceProperties(&device, 0));
  cudaEvent_t start, stop;
  MUST(cudaEventCreate(&start));
  MUST(cudaEventCreate(&stop));
  std::printf("%s; median of 20, by CUDA events; TB/s of bytes read and written\n", device.name);
  std::printf("%-5s %7s %6s %10s %9s %7s %9s %7s %7s %9s %7s\n", "dtype", "vocab", "rows", "copy ms", "TB/s", "",
              "grpo ms", "TB/s", "of copy", "logp ms", "TB/s");
  const double begun = seconds();
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const int64_t vocab : {32000, 128256, 151936, 262144}) {
      const char* name = dtype == DType::f32 ? "f32" : "bf16";
      if (seconds() - begun > 50) {
        std::printf("%s %lld: not measured, out of time\n", name, (long long)vocab);
        continue;
      }
      size_t free_bytes = 0, total = 0;
      MUST(cudaMemGetInfo(&free_bytes, &total));
      const int64_t row = vocab * size_of(dtype);
      // the matrix and the copy's two: three of the same size
      const int64_t rows =
          std::min<int64_t>(dtype == DType::f32 ? 8192 : 32768, int64_t(0.6 * double(free_bytes)) / (2 * row) / 8 * 8);
      const Bytes pattern = pattern_of(dtype, 5, vocab);
      Problem p(dtype, rows, vocab);
      const size_t bytes = size_t(rows * row);
      Buffer other(bytes);
      std::vector<float> copy, grpo, logp;
      const auto timed = [&](auto work) {
        MUST(cudaEventRecord(start));
        work();
        MUST(cudaEventRecord(stop));
        MUST(cudaEventSynchronize(stop));
        float ms = 0;
        MUST(cudaEventElapsedTime(&ms, start, stop));
        return ms;
      };
      bool good = true;
      fill_matrix(p.logits.p, pattern, rows, row);
      for (int i = -3; i < 20; ++i) {  // the first three warm up; later passes work on gradients, which cost the same
        const float a = timed([&] { MUST(cudaMemcpyAsync(other.p, p.logits.p, bytes, cudaMemcpyDeviceToDevice)); });
        const float b = timed([&] { launched(p.forward()); });
        const float c = timed([&] { launched(p.grpo(0, rows)); });
        good = good && p.read().status.ok();
        if (i >= 0) copy.push_back(a), logp.push_back(b), grpo.push_back(c);
      }
      const double c = median(copy), g = median(grpo), l = median(logp), both = 2e-9 * double(bytes);
      ++(good ? passed : failed);
      std::printf("%-5s %7lld %6lld %10.3f %9.3f %7s %9.3f %7.3f %6.1f%% %9.3f %7.3f%s\n", name, (long long)vocab,
                  (long long)rows, c, both / c, "", g, both / g, 100 * c / g, l, both / 2 / l, good ? "" : "  FAULT");
      if (file)
        std::fprintf(
            file,
            "{\"what\":\"fused-grpo\",\"device\":\"%s\",\"dtype\":\"%s\",\"vocab\":%lld,\"rows\":%lld,\"copy_ms\":%.5f,"
            "\"grpo_ms\":%.5f,\"logp_ms\":%.5f,\"grpo_tb_s\":%.4f,\"copy_tb_s\":%.4f,\"logp_tb_s\":%.4f,\"share_of_"
            "copy\":%.4f}\n",
            device.name, name, (long long)vocab, (long long)rows, c, g, l, both / g, both / c, both / 2 / l, c / g);
      std::fflush(stdout);
    }
  if (file) std::fclose(file);
  return finish("bench");
}

int find_device() {
  int count = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  if (e != cudaSuccess || count == 0) {
    std::printf("no device: %s\n", e == cudaSuccess ? "the driver reports none" : cudaGetErrorString(e));
    return 3;
  }
  const cuda::Device d = cuda::current_device();
  cudaDeviceProp properties;
  MUST(cudaGetDeviceProperties(&properties, 0));
  std::printf("device: %s, sm_%d%d, %d multiprocessors, %.1f GB; CPU kernels: %s\n", properties.name, d.major, d.minor,
              d.multiprocessors, double(properties.totalGlobalMem) / 1e9, simd());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string part = count > 1 ? arguments[1] : "device";
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (const int code = find_device(); code != 0 || part == "device") return code;
  quick = count > 2 && std::string(arguments[2]) == "--quick";
  if (part == "tests") return tests();
  if (part == "large") return large();
  if (part == "bench") return bench(count > 2 ? arguments[2] : nullptr);
  std::printf("usage: gpu-check device | tests [--quick] | large | bench [file]\n");
  return 2;
}
