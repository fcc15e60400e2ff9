// The ops of critics and reward models.
#include <algorithm>

#include "capi/device.h"
#include "capi/exec.h"
#include "capi/options.h"
#include "kernels/value_ops.h"

namespace fg::capi {
namespace {

using namespace kernels;

void gae(const fg_gae_args& x, Runner runner) {
  Buffers buffers;
  GaeArgs k;
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  const int64_t n = k.layout.rows;
  k.rewards = buffers.in("rewards", x.rewards, n);
  k.values = buffers.in("values", x.values, n);
  k.last_values = buffers.optional_in("last_values", x.last_values, k.layout.sequences);
  k.options.gamma = number("gamma", x.gamma, {.min = 0, .max = 1});
  k.options.lambda = number("lambda", x.lambda, {.min = 0, .max = 1});
  k.options.whiten = flag("whiten", x.whiten);
  reserved("args.reserved", x.reserved);
  k.advantages = buffers.out("advantages", x.advantages, n);
  k.returns = buffers.out("returns", x.returns, n);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes, runner.scratch_bytes(gae_workspace(n), n));
  buffers.check_overlap();
  Culprits c;
  c.layout = &l.host;
  c.arrays = {{Fault::token_reward, {"rewards", k.rewards, nullptr}},
              {Fault::value, {"values", k.values, nullptr}},
              {Fault::last_value, {"last_values", k.last_values, nullptr}}};
  raise_fault(runner.gpu() ? device::gae(k, scratch, runner.stream()) : kernels::gae(k, scratch), c, runner);
}

void value_loss(const fg_value_loss_args& x, Runner runner) {
  Buffers buffers;
  ValueLossArgs k;
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  const int64_t n = k.layout.rows;
  k.values = buffers.in("values", x.values, n);
  k.returns = buffers.in("returns", x.returns, n);
  k.clip = optional_number("cliprange_value", x.cliprange_value, kUnbounded, {.min = 0});
  if (k.clip < kUnbounded) k.old_values = buffers.in("old_values", x.old_values, n);
  const double selected = double(std::max<int64_t>(selected_tokens(l.host), 1));
  k.normalizer = optional_number("normalizer", x.normalizer, selected, {.above = 0});
  k.grad_values = buffers.out("grad_values", x.grad_values, n);
  double* loss = buffers.out("loss", x.loss, 1);
  double* clip_ratio = buffers.optional_out("clip_ratio", x.clip_ratio, 1);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes, runner.scratch_bytes(0, n));
  buffers.check_overlap();
  Culprits c;
  c.layout = &l.host;
  c.arrays = {{Fault::value, {"values", k.values, nullptr}},
              {Fault::old_value, {"old_values", k.old_values, nullptr}},
              {Fault::return_value, {"returns", k.returns, nullptr}}};
  Totals t;
  raise_fault(runner.gpu() ? device::value_loss(k, scratch, runner.stream(), &t) : kernels::value_loss(k, &t), c,
              runner);
  *loss = t.loss;
  if (clip_ratio) *clip_ratio = t.count > 0 ? double(t.clipped) / double(t.count) : 0;
}

void preference_loss(const fg_preference_loss_args& x, Runner runner) {
  Buffers buffers;
  PreferenceLossArgs k;
  k.pairs = count("pairs", x.pairs);
  k.chosen = buffers.in("chosen_rewards", x.chosen_rewards, k.pairs);
  k.rejected = buffers.in("rejected_rewards", x.rejected_rewards, k.pairs);
  k.margins = buffers.optional_in("margins", x.margins, k.pairs);
  k.center_coefficient = number("center_rewards_coefficient", x.center_rewards_coefficient, {.min = 0});
  k.normalizer = optional_number("normalizer", x.normalizer, double(std::max<int64_t>(k.pairs, 1)), {.above = 0});
  k.grad_chosen = buffers.out("grad_chosen", x.grad_chosen, k.pairs);
  k.grad_rejected = buffers.out("grad_rejected", x.grad_rejected, k.pairs);
  double* loss = buffers.out("loss", x.loss, 1);
  double* accuracy = buffers.optional_out("accuracy", x.accuracy, 1);
  double* margin = buffers.optional_out("margin", x.margin, 1);
  void* scratch = buffers.scratch<double>(x.scratch, x.scratch_bytes, runner.scratch_bytes(0, k.pairs));
  buffers.check_overlap();
  Culprits c;
  c.arrays = {{Fault::chosen_reward, {"chosen_rewards", k.chosen, nullptr}},
              {Fault::rejected_reward, {"rejected_rewards", k.rejected, nullptr}},
              {Fault::margin, {"margins", k.margins, nullptr}}};
  Totals t;
  raise_fault(runner.gpu() ? device::preference_loss(k, scratch, runner.stream(), &t) : kernels::preference_loss(k, &t),
              c, runner);
  const auto mean = [&](double sum) { return k.pairs > 0 ? sum / double(k.pairs) : 0.0; };
  *loss = t.loss;
  if (accuracy) *accuracy = mean(double(t.ranked));
  if (margin) *margin = mean(t.margin);
}

}  // namespace
}  // namespace fg::capi

using namespace fg::capi;

extern "C" {

fg_status fg_gae_scratch(const fg_gae_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return fg::kernels::gae_workspace(layout_sizes(x.layout).rows); });
}
fg_status fg_gae(const fg_gae_args* args, fg_error* error) {
  return guarded(error, [&] { gae(take(args, "args"), Runner(nullptr)); });
}
fg_status fg_gae_cuda(const fg_gae_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { gae(take(args, "args"), Runner::on_gpu(stream)); });
}

fg_status fg_value_loss(const fg_value_loss_args* args, fg_error* error) {
  return guarded(error, [&] { value_loss(take(args, "args"), Runner(nullptr)); });
}
fg_status fg_value_loss_cuda(const fg_value_loss_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { value_loss(take(args, "args"), Runner::on_gpu(stream)); });
}

fg_status fg_preference_loss(const fg_preference_loss_args* args, fg_error* error) {
  return guarded(error, [&] { preference_loss(take(args, "args"), Runner(nullptr)); });
}
fg_status fg_preference_loss_cuda(const fg_preference_loss_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { preference_loss(take(args, "args"), Runner::on_gpu(stream)); });
}
}
