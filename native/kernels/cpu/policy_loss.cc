// Log-probs -> loss, its derivative by them, metrics. The formula is math/policy_loss.h; here: weights, selection,
// totals.
#include "math/policy_loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/tokens.h"
#include "math/sequence_sums.h"

namespace fg::kernels {
namespace {

int64_t selected_in(const Layout& l, int64_t s) {
  if (l.truncated && l.truncated[s]) return 0;
  const int64_t begin = begin_of(l, s), end = end_of(l, s);
  if (!l.mask) return end - begin;
  return end - begin - std::count(l.mask + begin, l.mask + end, uint8_t(0));
}

Fault check_token(const LossParams& p, const PolicyBatch& b, int64_t row, int64_t sequence) {
  if (b.old_logps && !std::isfinite(b.old_logps[row])) return Fault::old_logp;
  if (p.beta != 0 && !std::isfinite(b.ref_logps[row])) return Fault::ref_logp;
  if (b.sampler_logps && std::isinf(b.sampler_logps[row])) return Fault::sampler_logp;
  return std::isfinite(b.advantages[b.advantages_per_token ? row : sequence]) ? Fault::none : Fault::advantage;
}

/// The sampler's weights where they need no current log-prob.
void correct_sequence(const LossParams& p, const PolicyBatch& b, int64_t s, TokenRecord* records) {
  double sum = 0;
  for (int64_t row = begin_of(b.layout, s); row < end_of(b.layout, s); ++row) {
    if (!records[row].selected) continue;
    const double d = sampler_log_ratio<double>(b.old_logps[row], b.sampler_logps[row]);
    sum += d;
    records[row].factor = sampler_weight(p, d);
  }
  if (!corrects_by_sequence(p.sampler)) return;
  const double weight = sampler_weight(p, sum);
  for (int64_t row = begin_of(b.layout, s); row < end_of(b.layout, s); ++row) records[row].factor = weight;
}

}  // namespace

int64_t selected_tokens(const Layout& l) {
  int64_t n = 0;
  for (int64_t s = 0; s < l.sequences; ++s) n += selected_in(l, s);
  return n;
}

double default_normalizer(LossType type, const Layout& l, double max_completion_length, bool exclude_empty) {
  const Counted counted = counted_by(type);
  if (counted == Counted::tokens) return double(std::max<int64_t>(selected_tokens(l), 1));
  int64_t n = l.sequences;
  for (int64_t s = 0; s < l.sequences && exclude_empty; ++s) n -= selected_in(l, s) == 0;
  return double(std::max<int64_t>(n, 1)) * (counted == Counted::sequence_lengths ? max_completion_length : 1.0);
}

void set_normalizers(const Normalizers& n, const LossParams& p, PolicyBatch* b) {
  b->normalizer = n.normalizer > 0
                      ? n.normalizer
                      : default_normalizer(p.loss_type, b->layout, n.max_completion_length, n.exclude_empty);
  if (n.entropy_normalizer > 0) {
    b->entropy_weight = n.entropy_coef / n.entropy_normalizer;
  } else if (has_entropy_mask(p)) {
    b->entropy_coef = n.entropy_coef;
  } else if (n.entropy_coef != 0) {
    b->entropy_weight = n.entropy_coef / double(std::max<int64_t>(selected_tokens(b->layout), 1));
  }
}

Status prepare_tokens(const LossParams& p, const PolicyBatch& b, TokenRecord* records) {
  const Layout& l = b.layout;
  Status status;
  const bool corrects = p.sampler != SamplerCorrection::none && !two_phases(p, b);
  for (int64_t s = 0; s < l.sequences; ++s) {
    const int64_t length = selected_in(l, s);
    const double weight = token_weight(p.loss_type, b.normalizer, length);
    for (int64_t row = begin_of(l, s); row < end_of(l, s); ++row) {
      const bool selected = length > 0 && (!l.mask || l.mask[row]);
      records[row] = {};
      records[row].sequence = int32_t(s);
      records[row].selected = selected;
      records[row].weight = !selected ? 0.0 : b.weights ? b.weights[row] : weight;
      records[row].factor = 1;
      if (!selected || !status.ok()) continue;
      const Fault fault = check_token(p, b, row, s);
      if (fault != Fault::none) status = {fault, row};
    }
    if (corrects && status.ok()) correct_sequence(p, b, s, records);
  }
  return status;
}

void token_step(const LossParams& p, const PolicyBatch& b, int64_t row, TokenRecord* r) {
  const double old = b.old_logps ? b.old_logps[row] : 0.0;
  const double ref = p.beta != 0 ? b.ref_logps[row] : 0.0;
  r->kept = r->entropy >= p.entropy_threshold;
  const double factor = r->kept ? r->factor : 0.0;
  const auto t = token_slope<double>(p, r->logp, !b.old_logps, old, ref, advantage_of(b, row, *r), factor);
  r->entropy_slope = r->kept ? -b.entropy_weight : 0.0;
  r->loss = r->weight * t.loss.value + r->entropy_slope * r->entropy;
  r->slope = r->weight * t.loss.slope;
  r->kl = float(t.kl.value);
  r->ratio = float(t.ratio.value);
  r->clipped_low = t.clipped_low;
  r->clipped_high = t.clipped_high;
}

PolicyMetrics collect_metrics(const Layout& l, const TokenRecord* records) {
  PolicyMetrics m;
  for (int64_t row = 0; row < l.rows; ++row) {
    const TokenRecord& r = records[row];
    if (!r.selected) continue;
    ++m.tokens;
    m.loss += r.loss, m.kl += r.kl, m.entropy += r.entropy, m.ratio += r.ratio;
    m.ratio_min = std::min<double>(m.ratio_min, r.ratio);
    m.ratio_max = std::max<double>(m.ratio_max, r.ratio);
    m.clipped_low += r.clipped_low, m.clipped_high += r.clipped_high;
  }
  m.sequences = l.sequences;
  return m;
}

void policy_steps(const Context& context, const LossParams& p, const PolicyBatch& b, TokenRecord* records) {
  if (two_phases(p, b)) return sequence_steps(context, p, b, records);
  parallel_for(context, b.layout.rows, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      if (records[row].selected) token_step(p, b, row, records + row);
  });
}

Status policy_loss(const Context& context, const LossParams& p, const PolicyLossArgs& a, PolicyMetrics* metrics) {
  const Layout& l = a.batch.layout;
  Status status = prepare_tokens(p, a.batch, a.records);
  for (int64_t row = 0; row < l.rows && status.ok(); ++row) {
    TokenRecord* r = a.records + row;
    if (!r->selected) continue;
    r->logp = a.logps[row];
    r->entropy = a.entropies ? a.entropies[row] : 0.0;
    if (!(r->logp <= std::numeric_limits<float>::max())) status = {Fault::logp, row};
    if (status.ok() && !std::isfinite(r->entropy)) status = {Fault::entropy, row};
  }
  if (!status.ok()) return status;
  policy_steps(context, p, a.batch, a.records);
  for (int64_t row = 0; row < l.rows; ++row) {
    a.grad_logps[row] = float(a.records[row].slope);
    if (a.grad_entropies) a.grad_entropies[row] = float(a.records[row].entropy_slope);
  }
  *metrics = collect_metrics(l, a.records);
  return {};
}

}  // namespace fg::kernels
