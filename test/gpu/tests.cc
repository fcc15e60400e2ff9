// The ops on the device against their CPU twins on the same bytes.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "compare.h"
#include "kernels/cuda/table.h"
#include "parts.h"

namespace fg::check {
namespace {

/// What the CPU gives, and how far the device may be from it beyond a gradient's own rounding: an error of a log-prob
/// goes on into the ratio, and so into the whole row.
struct Expected {
  Result logp, policy, grpo[2], backward[2];  // [1]: in place
  double deepest = 1;                         // the largest magnitude of a log-prob
  std::vector<float> grpo_slack, backward_slack;
};

Expected expected_of(const Case& c) {
  Expected e{run_logp(c, false),
             run_policy(c, false),
             {run_grpo(c, false, false), run_grpo(c, false, true)},
             {run_backward(c, false, false), run_backward(c, false, true)},
             1,
             {},
             {}};
  for (size_t i = 0; i < size_t(c.rows); ++i) {
    const double l = 2e-6 * std::max(1.0, std::abs(double(e.logp.logps[i]))) / std::min(1.0, c.temperature);
    e.deepest = std::max(e.deepest, std::abs(double(e.logp.logps[i])));
    const int64_t s = c.sequence_of(int64_t(i));
    const double advantage = c.fused() ? e.grpo[0].advantages[size_t(s)] : c.advantages[c.per_token ? i : size_t(s)];
    const double weight =
        token_weight(c.params.loss_type, c.normalizer, weighs_by_length(c.params.loss_type) ? 1 : c.length_of(s));
    const double others = c.two_phases() ? double(c.rows) : 1;  // whose errors reach this token
    e.grpo_slack.push_back(
        float(others * l * (weight * (2 * std::abs(advantage) + 4 * c.params.beta) + c.entropy_weight)));
    e.backward_slack.push_back(
        float(l * (std::abs(c.grad_logps[i]) + (c.grad_entropies.empty() ? 0 : std::abs(c.grad_entropies[i])))));
  }
  return e;
}

/// Runs twice: the values against the CPU's, then the bits against the first run's.
template <class Run, class More>
void check(const Case& c, const char* op, const char* variant, const Result& cpu, Run run, More more) {
  const Result device = run();
  std::string found = differ_values(device, cpu);
  if (found.empty()) found = more(device);
  if (found.empty() && !same(device, run())) found = "a repetition gives other bits";
  report(c, op, variant, found);
}

std::string nothing_more(const Result&) { return {}; }

std::string names_row(const Result& r, Fault fault, int64_t row) {
  return r.status.fault == fault && r.status.row == row ? "" : "the fault does not name the row";
}

void check_nan_row(const Case& good, int64_t row, const char* variant) {
  Case c = good;
  put(c.logits.data(), c.dtype, c.base + c.at(c.shape, row) + c.vocab / 2, NAN);
  for (const bool in_place : {false, true}) {
    const Result r = run_grpo(c, true, in_place);
    std::string found;
    if (r.status.fault != Fault::logits || r.status.row != row)
      found = text("a NaN in row %lld gave fault %d in row %lld", (long long)row, int(r.status.fault),
                   (long long)r.status.row);
    if (found.empty() && c.two_phases()) {  // found before a gradient was written
      report(c, "NaN row before the second phase", variant, found);
      continue;
    }
    const int64_t at = in_place ? c.base + c.at(c.shape, row) : c.grad_base + c.at(c.grad_shape, row);
    for (int64_t j = 0; j < c.vocab && found.empty(); ++j)
      if (get(r.grad.data(), c.dtype, at + j) != 0) found = "the bad row's gradient is not 0";
    report(c, in_place ? "NaN row, in place" : "NaN row", variant, found);
  }
  report(c, "NaN row, selective_logp", variant, names_row(run_logp(c, true), Fault::logits, row));
}

void check_bad_target(const Case& good, int64_t row, const char* variant) {
  Case c = good;
  c.targets[size_t(row)] = int32_t(c.vocab);
  const Result r = run_grpo(c, true, false);
  std::string found = names_row(r, Fault::target, row);
  if (found.empty() && r.grad != c.grad) found = "the gradient was written";
  report(c, "bad target", variant, found);
}

void check_faults(const Case& c, const char* variant) {
  int64_t row = c.rows - 1;
  while (row >= 0 && !c.selected(row)) --row;
  if (row < 0) return;
  check_nan_row(c, row, variant);
  if (!quick) check_bad_target(c, row, variant);  // it leaves outputs unwritten, which initcheck reports
}

void check_gradients(const Case& c, const Expected& cpu, bool in_place, const char* variant) {
  const Rows& shape = in_place ? c.shape : c.grad_shape;
  const int64_t base = in_place ? c.base : c.grad_base;
  const Result &grpo = cpu.grpo[in_place], &backward = cpu.backward[in_place];
  check(
      c, in_place ? "grpo_loss in place" : "grpo_loss", variant, grpo, [&] { return run_grpo(c, true, in_place); },
      [&](const Result& r) {
        std::string f = differ_metrics(r.metrics, grpo.metrics, cpu.deepest);
        return f.empty() ? differ_grad(c, r.grad, grpo.grad, shape, base, cpu.grpo_slack) : f;
      });
  check(
      c, in_place ? "selective_logp_backward in place" : "selective_logp_backward", variant, backward,
      [&] { return run_backward(c, true, in_place); },
      [&](const Result& r) { return differ_grad(c, r.grad, backward.grad, shape, base, cpu.backward_slack); });
}

void check_case(const Case& c, const std::vector<const char*>& variants) {
  const Expected cpu = expected_of(c);
  if (!c.rewards.empty())
    check(c, "group_advantages", "-", run_advantages(c, false), [&] { return run_advantages(c, true); }, nothing_more);
  check(
      c, "policy_loss", "-", cpu.policy, [&] { return run_policy(c, true); },
      [&](const Result& r) { return differ_metrics(r.metrics, cpu.policy.metrics, 1); });
  for (const char* variant : variants) {
    cuda::force_variant(variant);
    if (variant == variants[0])  // forward only: one kernel for all
      check(c, "selective_logp", variant, cpu.logp, [&] { return run_logp(c, true); }, nothing_more);
    for (const bool in_place : {false, true}) check_gradients(c, cpu, in_place, variant);
    if (c.seed % 4 == 0) check_faults(c, variant);
  }
  cuda::force_variant(nullptr);
}

}  // namespace

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

}  // namespace fg::check
