#include "compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace fg::check {
namespace {

std::string differ_number(const char* what, double device, double cpu, double tolerance) {
  if (device == cpu || std::abs(device - cpu) <= tolerance) return {};
  return text("%s: device %.12g, CPU %.12g", what, device, cpu);
}

std::string differ_row(const Case& c, int64_t row, const unsigned char* device, const unsigned char* cpu,
                       double slack) {
  const bool selected = c.selected(row);
  double largest = 0;
  for (int64_t j = 0; j < c.vocab; ++j) largest = std::max(largest, std::abs(double(get(cpu, c.dtype, j))));
  for (int64_t j = 0; j < c.vocab; ++j) {
    const double x = get(device, c.dtype, j), y = get(cpu, c.dtype, j);
    const auto close = [&] {
      return x == y || std::abs(x - y) <= 2e-5 * largest + ulp(c.dtype, std::max(std::abs(x), std::abs(y))) + slack;
    };
    if (selected ? close() : x == 0) continue;
    return text("gradient[%lld][%lld]: device %.9g, CPU %.9g (largest %.3g, slack %.3g)%s", (long long)row,
                (long long)j, x, y, largest, slack, selected ? "" : ", a masked row");
  }
  return {};
}

}  // namespace

std::string differ(const char* what, const std::vector<float>& device, const std::vector<float>& cpu,
                   double tolerance) {
  for (size_t i = 0; i < cpu.size(); ++i)
    if (!(std::abs(double(device[i]) - cpu[i]) <= tolerance * std::max(1.0, std::abs(double(cpu[i])))))
      return text("%s[%zu]: device %.9g, CPU %.9g", what, i, device[i], cpu[i]);
  return {};
}

std::string differ_grad(const Case& c, const Bytes& device, const Bytes& cpu, const Rows& shape, int64_t base,
                        const std::vector<float>& slack) {
  Bytes between = cpu;
  const int64_t size = size_of(c.dtype);
  for (int64_t i = 0; i < c.rows; ++i) {
    const int64_t first = (base + c.at(shape, i)) * size;
    std::memcpy(between.data() + first, device.data() + first, size_t(c.vocab * size));
    std::string f = differ_row(c, i, device.data() + first, cpu.data() + first, slack[size_t(i)]);
    if (!f.empty()) return f;
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

bool same(const Result& a, const Result& b) {
  return a.grad == b.grad && a.logps == b.logps && a.lse == b.lse && a.entropies == b.entropies &&
         a.advantages == b.advantages && a.grad_logps == b.grad_logps && a.grad_entropies == b.grad_entropies &&
         a.metrics.loss == b.metrics.loss && a.metrics.kl == b.metrics.kl && a.metrics.entropy == b.metrics.entropy &&
         a.metrics.ratio == b.metrics.ratio;
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

}  // namespace fg::check
