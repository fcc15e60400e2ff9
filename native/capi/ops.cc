// The ops of kernels.h: log-probs, policy loss, GRPO's loss.
#include "capi/device.h"
#include "capi/exec.h"
#include "capi/options.h"
#include "kernels/kernels.h"

namespace fg::capi {
namespace {

using namespace kernels;

template <class T>
size_t bytes_of(int64_t n) {
  return size_t(n) * sizeof(T);
}

Culprits policy_culprits(const PolicyBatch& b, const Layout& host) {
  Culprits c;
  c.layout = &host;
  c.arrays = {{Fault::old_logp, {"old_logps", b.old_logps, nullptr}},
              {Fault::ref_logp, {"ref_logps", b.ref_logps, nullptr}},
              {Fault::sampler_logp, {"sampler_logps", b.sampler_logps, nullptr}}};
  return c;
}

/// `host`: the layout where the host can read it.
PolicyBatch policy_batch(Buffers& buffers, const fg_policy_batch* given, const LossOptions& o, Runner& runner,
                         Layout* host) {
  const fg_policy_batch x = take(given, "batch");
  PolicyBatch b;
  const Layouts l = layouts(buffers, x.layout, runner);
  b.layout = l.here, *host = l.host;
  const int64_t n = b.layout.rows;
  reserved("batch.reserved", x.reserved);
  if (o.mask_truncated) b.layout.truncated = buffers.in("truncated", x.truncated, b.layout.sequences);
  b.old_logps = buffers.optional_in("old_logps", x.old_logps, n);
  if (o.params.beta != 0) b.ref_logps = buffers.in("ref_logps", x.ref_logps, n);
  b.sampler_logps = o.params.sampler != SamplerCorrection::none
                        ? buffers.in("sampler_logps", x.sampler_logps, n)
                        : buffers.optional_in("sampler_logps", x.sampler_logps, n);
  b.advantages_per_token = flag("advantages_per_token", x.advantages_per_token);
  b.advantages = buffers.in("advantages", x.advantages, b.advantages_per_token ? n : b.layout.sequences);
  host->truncated = runner.on_host(b.layout.truncated, b.layout.sequences);
  PolicyBatch counted = b;
  counted.layout = *host;
  fg::kernels::set_normalizers(o.normalizers, o.params, &counted);
  b.normalizer = counted.normalizer, b.entropy_weight = counted.entropy_weight, b.entropy_coef = counted.entropy_coef;
  return b;
}

/// Sums -> means, as lib/ops/policy_loss.ts.
fg_metrics metrics_of(const PolicyMetrics& m, bool with_kl, bool with_entropy) {
  fg_metrics out = defaults<fg_metrics>();
  const auto mean = [&](double sum) { return m.tokens > 0 ? sum / double(m.tokens) : 0.0; };
  out.loss = m.loss;
  out.kl = with_kl ? mean(m.kl) : 0;
  out.entropy = with_entropy ? mean(m.entropy) : 0;
  out.clip_ratio_low = mean(double(m.clipped_low)), out.clip_ratio_high = mean(double(m.clipped_high));
  out.ratio_mean = mean(m.ratio);
  if (m.tokens > 0) out.ratio_min = m.ratio_min, out.ratio_max = m.ratio_max;
  out.tokens = m.tokens, out.sequences = m.sequences;
  return out;
}

void check_grad(const Rows& logits, const Rows& grad) {
  if (grad.vocab != logits.vocab)
    invalid({"grad.vocab"}, std::to_string(logits.vocab) + ", as of the logits,", std::to_string(grad.vocab));
  if (grad.dtype != logits.dtype) invalid({"grad.dtype"}, "the logits' dtype", std::to_string(int(grad.dtype)));
}

void selective_logp(const fg_selective_logp_args& x, Runner runner) {
  Buffers buffers;
  SelectiveLogpArgs k;
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  const int64_t n = k.layout.rows;
  k.logits = buffers.rows("logits", x.logits, l.host, false);
  k.targets = buffers.in("targets", x.targets, n);
  k.temperature = temperature(x.temperature);
  k.logps = buffers.out("logps", x.logps, n);
  k.lse = buffers.optional_out("lse", x.lse, n);
  k.entropies = buffers.optional_out("entropies", x.entropies, n);
  k.faults = buffers.scratch<Fault>(x.scratch, x.scratch_bytes, runner.scratch_bytes(bytes_of<Fault>(n), n));
  buffers.check_overlap();
  raise_fault(runner.gpu() ? device::selective_logp(k, x.scratch, runner.stream())
                           : kernels::selective_logp(runner.context(), k),
              {&l.host, k.targets, k.logits.vocab, 0, {}}, runner);
}

void selective_logp_backward(const fg_selective_logp_backward_args& x, Runner runner) {
  Buffers buffers;
  SelectiveLogpBackwardArgs k;
  const Layouts l = layouts(buffers, x.layout, runner);
  k.layout = l.here;
  const int64_t n = k.layout.rows;
  k.logits = buffers.rows("logits", x.logits, l.host, false);
  k.grad = buffers.rows("grad", x.grad, l.host, true);
  check_grad(k.logits, k.grad);
  k.targets = buffers.in("targets", x.targets, n);
  k.temperature = temperature(x.temperature);
  k.grad_logps = buffers.in("grad_logps", x.grad_logps, n);
  k.grad_entropies = buffers.optional_in("grad_entropies", x.grad_entropies, n);
  k.faults = buffers.scratch<Fault>(x.scratch, x.scratch_bytes, runner.scratch_bytes(bytes_of<Fault>(n), n));
  buffers.check_overlap(&k.logits, &k.grad);
  raise_fault(runner.gpu() ? device::selective_logp_backward(k, x.scratch, runner.stream())
                           : kernels::selective_logp_backward(runner.context(), k),
              {&l.host, k.targets, k.logits.vocab, 0, {}}, runner);
}

void policy_loss(const fg_policy_loss_args& x, const fg_loss_options* options, Runner runner) {
  const LossOptions o = loss_options(options);
  Buffers buffers;
  PolicyLossArgs k;
  Layout host;
  k.batch = policy_batch(buffers, x.batch, o, runner, &host);
  const int64_t n = k.batch.layout.rows;
  k.logps = buffers.in("logps", x.logps, n);
  k.entropies =
      o.reads_entropies() ? buffers.in("entropies", x.entropies, n) : buffers.optional_in("entropies", x.entropies, n);
  k.grad_logps = buffers.out("grad_logps", x.grad_logps, n);
  k.grad_entropies = buffers.optional_out("grad_entropies", x.grad_entropies, n);
  k.records = buffers.scratch<TokenRecord>(x.scratch, x.scratch_bytes, runner.scratch_bytes(grpo_loss_workspace(n), n));
  buffers.out_struct("metrics", x.metrics);
  buffers.check_overlap();
  Culprits culprits = policy_culprits(k.batch, host);
  culprits.arrays.push_back({Fault::logp, {"logps", k.logps, nullptr}});
  culprits.arrays.push_back({Fault::entropy, {"entropies", k.entropies, nullptr}});
  PolicyMetrics metrics;
  raise_fault(runner.gpu() ? device::policy_loss(o.params, k, x.scratch, runner.stream(), &metrics)
                           : kernels::policy_loss(runner.context(), o.params, k, &metrics),
              culprits, runner);
  give(x.metrics, metrics_of(metrics, o.params.beta > 0, k.entropies != nullptr));
}

void grpo_loss(const fg_grpo_loss_args& x, const fg_loss_options* options, Runner runner) {
  const LossOptions o = loss_options(options);
  Buffers buffers;
  GrpoLossArgs k;
  Layout host;
  k.batch = policy_batch(buffers, x.batch, o, runner, &host);
  const Layout& l = k.batch.layout;
  k.logits = buffers.rows("logits", x.logits, host, false);
  if (x.grad) {
    k.grad = buffers.rows("grad", x.grad, host, true);
    check_grad(k.logits, k.grad);
  }
  k.targets = buffers.in("targets", x.targets, l.rows);
  k.temperature = o.temperature;
  k.logps = buffers.optional_out("logps", x.logps, l.rows);
  k.lse = buffers.optional_out("lse", x.lse, l.rows);
  k.entropies = buffers.optional_out("entropies", x.entropies, l.rows);
  k.want_entropy = flag("entropy", x.entropy);
  reserved("args.reserved", x.reserved);
  k.records = buffers.scratch<TokenRecord>(x.scratch, x.scratch_bytes,
                                           runner.scratch_bytes(grpo_loss_workspace(l.rows), l.rows));
  buffers.out_struct("metrics", x.metrics);
  buffers.check_overlap(&k.logits, x.grad ? &k.grad : nullptr);
  Culprits culprits = policy_culprits(k.batch, host);
  culprits.targets = k.targets, culprits.vocab = k.logits.vocab;
  PolicyMetrics metrics;
  raise_fault(runner.gpu() ? device::grpo_loss(o.params, k, x.scratch, runner.stream(), &metrics)
                           : kernels::grpo_loss(runner.context(), o.params, k, &metrics),
              culprits, runner);
  give(x.metrics, metrics_of(metrics, o.params.beta > 0, k.want_entropy || k.entropies || o.reads_entropies()));
}

int64_t rows_of(const fg_policy_batch* batch) { return layout_sizes(take(batch, "batch").layout).rows; }

}  // namespace
}  // namespace fg::capi

using namespace fg::capi;

extern "C" {

fg_status fg_selective_logp_scratch(const fg_selective_logp_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return bytes_of<fg::kernels::Fault>(layout_sizes(x.layout).rows); });
}
fg_status fg_selective_logp(const fg_selective_logp_args* args, const fg_exec* exec, fg_error* error) {
  return guarded(error, [&] { selective_logp(take(args, "args"), Runner(exec)); });
}

fg_status fg_selective_logp_backward_scratch(const fg_selective_logp_backward_args* args, size_t* bytes,
                                             fg_error* error) {
  return query(args, bytes, error,
               [](const auto& x) { return bytes_of<fg::kernels::Fault>(layout_sizes(x.layout).rows); });
}
fg_status fg_selective_logp_backward(const fg_selective_logp_backward_args* args, const fg_exec* exec,
                                     fg_error* error) {
  return guarded(error, [&] { selective_logp_backward(take(args, "args"), Runner(exec)); });
}

fg_status fg_policy_loss_scratch(const fg_policy_loss_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error, [](const auto& x) { return fg::kernels::grpo_loss_workspace(rows_of(x.batch)); });
}
fg_status fg_policy_loss(const fg_policy_loss_args* args, const fg_loss_options* options, const fg_exec* exec,
                         fg_error* error) {
  return guarded(error, [&] { policy_loss(take(args, "args"), options, Runner(exec)); });
}

fg_status fg_grpo_loss_scratch(const fg_grpo_loss_args* args, size_t* bytes, fg_error* error) {
  return query(args, bytes, error, [](const auto& x) { return fg::kernels::grpo_loss_workspace(rows_of(x.batch)); });
}
fg_status fg_grpo_loss(const fg_grpo_loss_args* args, const fg_loss_options* options, const fg_exec* exec,
                       fg_error* error) {
  return guarded(error, [&] { grpo_loss(take(args, "args"), options, Runner(exec)); });
}

fg_status fg_selective_logp_cuda(const fg_selective_logp_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { selective_logp(take(args, "args"), Runner::on_gpu(stream)); });
}
fg_status fg_selective_logp_backward_cuda(const fg_selective_logp_backward_args* args, void* stream, fg_error* error) {
  return guarded(error, [&] { selective_logp_backward(take(args, "args"), Runner::on_gpu(stream)); });
}
fg_status fg_policy_loss_cuda(const fg_policy_loss_args* args, const fg_loss_options* options, void* stream,
                              fg_error* error) {
  return guarded(error, [&] { policy_loss(take(args, "args"), options, Runner::on_gpu(stream)); });
}
fg_status fg_grpo_loss_cuda(const fg_grpo_loss_args* args, const fg_loss_options* options, void* stream,
                            fg_error* error) {
  return guarded(error, [&] { grpo_loss(take(args, "args"), options, Runner::on_gpu(stream)); });
}
fg_status fg_cuda_scratch(int64_t rows_or_count, size_t* bytes, fg_error* error) {
  return guarded(error, [&] {
    device::require();
    if (!bytes) invalid({"bytes"}, "a pointer to a size_t", "NULL");
    *bytes = device::scratch_bytes(count("rows_or_count", rows_or_count));
  });
}
int32_t fg_has_cuda(void) { return device::built(); }

uint32_t fg_abi_version(void) { return FG_ABI_VERSION; }
const char* fg_version(void) { return FG_VERSION; }
const char* fg_simd(void) { return fg::kernels::simd(); }

const char* fg_status_name(fg_status status) {
  static const char* const names[] = {"FG_OK",         "FG_INVALID_ARG", "FG_INCOMPATIBLE_OPTIONS",
                                      "FG_NON_FINITE", "FG_STRUCT_SIZE", "FG_SCRATCH_TOO_SMALL",
                                      "FG_NO_CUDA",    "FG_CUDA_FAILED", "FG_OUT_OF_MEMORY",
                                      "FG_INTERNAL"};
  return status >= 0 && status < int(sizeof names / sizeof *names) ? names[status] : "an unknown status";
}
}
