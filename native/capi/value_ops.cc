// The ops that make advantages of rewards.
#include "kernels/value_ops.h"

#include <algorithm>

#include "capi/device.h"
#include "capi/exec.h"
#include "capi/options.h"

namespace fg::capi {
namespace {

using namespace kernels;

struct Groups {
  int64_t count, groups;
  const int32_t *offsets, *host_offsets;  // the same, and where the host can read it
};

Groups groups_of(Buffers& buffers, int64_t members, int64_t groups, const int32_t* group_offsets, const char* what,
                 Runner& runner) {
  Groups g{members, count("groups", groups), nullptr, nullptr};
  g.offsets = buffers.in("group_offsets", group_offsets, g.groups + 1);
  g.host_offsets = runner.on_host(g.offsets, g.groups + 1);
  offsets("group_offsets", g.host_offsets, g.groups, g.count, what);
  return g;
}

template <class Args>
GroupResults group_results(Buffers& buffers, const Args& x, int64_t groups) {
  GroupResults r;
  r.mean = buffers.out("mean", x.mean, groups);
  r.std = buffers.out("std", x.std, groups);
  r.zero_std = buffers.out("zero_std", x.zero_std, groups);
  return r;
}

Culprits rewards_culprit(Fault fault, const char* name, const double* values) {
  Culprits c;
  c.arrays = {{fault, {name, nullptr, values}}};
  return c;
}

void group_advantages(const fg_group_advantages_args& x, const fg_advantage_options* options, Runner runner) {
  const AdvantageOptions o = advantage_options(options);
  Buffers buffers;
  const Groups g = groups_of(buffers, count("count", x.count), x.groups, x.group_offsets, "rewards", runner);
  const double* rewards = buffers.in("rewards", x.rewards, g.count);
  float* advantages = buffers.out("advantages", x.advantages, g.count);
  float* mean = buffers.optional_out("mean", x.mean, g.groups);
  float* std = buffers.optional_out("std", x.std, g.groups);
  uint8_t* zero = buffers.optional_out("zero_std", x.zero_std, g.groups);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes,
                                          runner.scratch_bytes(group_advantages_workspace(g.count), g.count));
  buffers.check_overlap();
  raise_fault(
      runner.gpu()
          ? device::group_advantages({rewards, g.count, g.offsets, g.groups, o, advantages, mean, std, zero}, scratch,
                                     runner.stream())
          : kernels::group_advantages(rewards, g.count, g.offsets, g.groups, o, advantages, mean, std, zero, scratch),
      rewards_culprit(Fault::reward, "rewards", rewards), runner);
}

void multi_reward_advantages(const fg_multi_reward_advantages_args& x, const fg_advantage_options* options,
                             Runner runner) {
  Buffers buffers;
  MultiRewardArgs k;
  k.options = advantage_options(options);
  k.functions = count("functions", x.functions, 1);
  const Groups g = groups_of(buffers, count("count", x.count), x.groups, x.group_offsets, "rewards", runner);
  k.count = g.count, k.groups = g.groups, k.group_offsets = g.offsets;
  k.rewards = buffers.in("rewards", x.rewards, k.functions * k.count);
  k.weights = buffers.in("reward_weights", x.reward_weights, k.functions);
  const double* weights = runner.on_host(k.weights, k.functions);
  for (int64_t i = 0; i < k.functions; ++i)
    if (!is_finite(weights[i])) not_finite({"reward_weights", i}, weights[i]);
  k.aggregation = RewardAggregation(choice("multi_objective_aggregation", x.multi_objective_aggregation, 2,
                                           "FG_SUM_THEN_NORMALIZE, FG_NORMALIZE_THEN_SUM"));
  reserved("args.reserved", x.reserved);
  const AdvantageOptions plain;
  if (k.aggregation == RewardAggregation::normalize_then_sum &&
      (k.options.scale != plain.scale || k.options.baseline != plain.baseline ||
       k.options.transform != plain.transform))
    incompatible(
        "FG_NORMALIZE_THEN_SUM defines itself what rewards are normalised by: scale_rewards, baseline and transform "
        "must be as fg_advantage_options_init sets them");
  k.advantages = buffers.out("advantages", x.advantages, k.count);
  k.results = group_results(buffers, x, k.groups);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes,
                                          runner.scratch_bytes(multi_reward_advantages_workspace(k.count), k.count));
  buffers.check_overlap();
  Culprits c = rewards_culprit(Fault::function_reward, "rewards", k.rewards);
  c.completions = k.count;
  raise_fault(runner.gpu() ? device::multi_reward_advantages(k, scratch, runner.stream())
                           : kernels::multi_reward_advantages(k, scratch),
              c, runner);
}

/// Everything where the host can read it.
void check_step_ends(const Layout& l, const int32_t* step_ends, const int32_t* step_offsets) {
  for (int64_t s = 0; s < l.sequences; ++s) {
    const int64_t first = l.offsets ? l.offsets[s] : 0;
    const int64_t end = l.offsets ? l.offsets[s + 1] : l.rows;
    for (int64_t i = step_offsets[s]; i < step_offsets[s + 1]; ++i) {
      const int32_t at = step_ends[i];
      if (at < first || at >= end)
        invalid({"step_ends", i},
                "a row of sequence " + std::to_string(s) + ", from " + std::to_string(first) + " to " +
                    std::to_string(end - 1) + ",",
                std::to_string(at));
      if (i > step_offsets[s] && at <= step_ends[i - 1])
        invalid({"step_ends", i}, "more than " + std::to_string(step_ends[i - 1]) + ", the end of the step before,",
                std::to_string(at));
    }
  }
}

void process_advantages(const fg_process_advantages_args& x, const fg_advantage_options* options, Runner runner) {
  Buffers buffers;
  ProcessAdvantagesArgs k;
  k.options = advantage_options(options);
  if (k.options.scale == RewardScale::batch || k.options.baseline != Baseline::group_mean ||
      k.options.transform != RewardTransform::none || k.options.exclude_non_finite)
    incompatible("fg_process_advantages knows scale_rewards FG_SCALE_GROUP and FG_SCALE_NONE, ddof and eps only");
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  if (k.layout.mask) invalid({"layout.mask"}, "NULL (steps have no mask)", "a pointer");
  k.steps = count("steps", x.steps);
  const int64_t sequences = k.layout.sequences;
  k.step_rewards = buffers.in("step_rewards", x.step_rewards, k.steps);
  k.step_ends = buffers.in("step_ends", x.step_ends, k.steps);
  k.step_offsets = buffers.in("step_offsets", x.step_offsets, sequences + 1);
  const int32_t* step_offsets = runner.on_host(k.step_offsets, sequences + 1);
  offsets("step_offsets", step_offsets, sequences, k.steps, "steps");
  check_step_ends(l.host, runner.on_host(k.step_ends, k.steps), step_offsets);
  const Groups g = groups_of(buffers, sequences, x.groups, x.group_offsets, "sequences", runner);
  k.groups = g.groups, k.group_offsets = g.offsets;
  k.advantages = buffers.out("advantages", x.advantages, k.layout.rows);
  k.results = group_results(buffers, x, k.groups);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes,
                                          runner.scratch_bytes(process_advantages_workspace(k.steps), k.layout.rows));
  buffers.check_overlap();
  raise_fault(
      runner.gpu() ? device::process_advantages(k, scratch, runner.stream()) : kernels::process_advantages(k, scratch),
      rewards_culprit(Fault::step_reward, "step_rewards", k.step_rewards), runner);
}

void pass_at_k_advantages(const fg_pass_at_k_advantages_args& x, Runner runner) {
  Buffers buffers;
  PassAtKArgs k;
  const Groups g = groups_of(buffers, count("count", x.count), x.groups, x.group_offsets, "rewards", runner);
  k.count = g.count, k.groups = g.groups, k.group_offsets = g.offsets;
  k.k = count("k", x.k, 1);
  for (int64_t i = 0; i < g.groups; ++i)
    if (const int64_t size = g.host_offsets[i + 1] - g.host_offsets[i]; size > 0 && k.k > size)
      invalid({"k"}, "at most " + std::to_string(size) + ", the size of group " + std::to_string(i) + ",",
              std::to_string(k.k));
  k.rewards = buffers.in("rewards", x.rewards, k.count);
  k.advantages = buffers.out("advantages", x.advantages, k.count);
  k.pass_at_k = buffers.out("pass_at_k", x.pass_at_k, k.groups);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes, runner.scratch_bytes(0, k.count));
  buffers.check_overlap();
  Culprits c = rewards_culprit(Fault::reward, "rewards", k.rewards);
  c.arrays.push_back({Fault::binary_reward, {"rewards", nullptr, k.rewards}});
  raise_fault(
      runner.gpu() ? device::pass_at_k_advantages(k, scratch, runner.stream()) : kernels::pass_at_k_advantages(k), c,
      runner);
}

void rewards_with_kl(const fg_rewards_with_kl_args& x, Runner runner) {
  Buffers buffers;
  RewardsWithKlArgs k;
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  k.rewards = buffers.in("rewards", x.rewards, k.layout.sequences);
  k.beta = number("beta", x.beta, {.min = 0});
  k.estimator = KlEstimator(choice("kl_estimator", x.kl_estimator, 3, "FG_K1, FG_K2, FG_K3"));
  reserved("args.reserved", x.reserved);
  if (k.beta != 0) {
    k.logps = buffers.in("logps", x.logps, k.layout.rows);
    k.ref_logps = buffers.in("ref_logps", x.ref_logps, k.layout.rows);
  }
  k.out = buffers.out("out", x.out, k.layout.sequences);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes, runner.scratch_bytes(0, k.layout.rows));
  buffers.check_overlap();
  Culprits c = rewards_culprit(Fault::reward, "rewards", k.rewards);
  c.layout = &l.host;
  c.arrays.push_back({Fault::logp, {"logps", k.logps, nullptr}});
  c.arrays.push_back({Fault::ref_logp, {"ref_logps", k.ref_logps, nullptr}});
  raise_fault(runner.gpu() ? device::rewards_with_kl(k, scratch, runner.stream()) : kernels::rewards_with_kl(k), c,
              runner);
}

}  // namespace
}  // namespace fg::capi

using namespace fg::capi;

extern "C" {

fg_status fg_uniform_offsets(int64_t how_many, int64_t length, int32_t* to, fg_error* error) {
  return guarded(error, [&] {
    count("count", how_many), count("length", length);
    if (how_many * length > INT32_MAX) invalid({"length"}, "less than 2^31 elements in total", std::to_string(length));
    Buffers().out("offsets", to, how_many + 1);
    for (int64_t i = 0; i <= how_many; ++i) to[i] = int32_t(i * length);
  });
}

fg_status fg_group_advantages_scratch(const fg_group_advantages_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return fg::kernels::group_advantages_workspace(count("count", x.count)); });
}
fg_status fg_group_advantages(const fg_group_advantages_args* args, const fg_advantage_options* options,
                              fg_error* error) {
  return guarded(error, [&] { group_advantages(take(args, "args"), options, Runner(nullptr)); });
}
fg_status fg_group_advantages_cuda(const fg_group_advantages_args* args, const fg_advantage_options* options,
                                   void* stream, fg_error* error) {
  return guarded(error, [&] { group_advantages(take(args, "args"), options, Runner::on_gpu(stream)); });
}

fg_status fg_multi_reward_advantages_scratch(const fg_multi_reward_advantages_args* args, size_t* bytes,
                                             fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return fg::kernels::multi_reward_advantages_workspace(count("count", x.count)); });
}
fg_status fg_multi_reward_advantages(const fg_multi_reward_advantages_args* args, const fg_advantage_options* options,
                                     fg_error* error) {
  return guarded(error, [&] { multi_reward_advantages(take(args, "args"), options, Runner(nullptr)); });
}
fg_status fg_multi_reward_advantages_cuda(const fg_multi_reward_advantages_args* args,
                                          const fg_advantage_options* options, void* stream, fg_error* error) {
  return guarded(error, [&] { multi_reward_advantages(take(args, "args"), options, Runner::on_gpu(stream)); });
}

fg_status fg_process_advantages_scratch(const fg_process_advantages_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return fg::kernels::process_advantages_workspace(count("steps", x.steps)); });
}
fg_status fg_process_advantages(const fg_process_advantages_args* args, const fg_advantage_options* options,
                                fg_error* error) {
  return guarded(error, [&] { process_advantages(take(args, "args"), options, Runner(nullptr)); });
}
fg_status fg_process_advantages_cuda(const fg_process_advantages_args* args, const fg_advantage_options* options,
                                     void* stream, fg_error* error) {
  return guarded(error, [&] { process_advantages(take(args, "args"), options, Runner::on_gpu(stream)); });
}

fg_status fg_pass_at_k_advantages(const fg_pass_at_k_advantages_args* args, fg_error* error) {
  return guarded(error, [&] { pass_at_k_advantages(take(args, "args"), Runner(nullptr)); });
}
fg_status fg_pass_at_k_advantages_cuda(const fg_pass_at_k_advantages_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { pass_at_k_advantages(take(args, "args"), Runner::on_gpu(stream)); });
}

fg_status fg_rewards_with_kl(const fg_rewards_with_kl_args* args, fg_error* error) {
  return guarded(error, [&] { rewards_with_kl(take(args, "args"), Runner(nullptr)); });
}
fg_status fg_rewards_with_kl_cuda(const fg_rewards_with_kl_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { rewards_with_kl(take(args, "args"), Runner::on_gpu(stream)); });
}
}
