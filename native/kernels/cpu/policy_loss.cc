// Log-probs -> loss, its derivative by them, metrics. The formula is math/policy_loss.h; here: weights, selection,
// totals.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/tokens.h"

namespace fg::kernels {
namespace {

int64_t begin_of(const Layout& l, int64_t s) { return l.offsets ? l.offsets[s] : 0; }
int64_t end_of(const Layout& l, int64_t s) { return l.offsets ? l.offsets[s + 1] : l.rows; }

int64_t selected_in(const Layout& l, int64_t s) {
  if (l.truncated && l.truncated[s]) return 0;
  const int64_t begin = begin_of(l, s), end = end_of(l, s);
  if (!l.mask) return end - begin;
  return end - begin - std::count(l.mask + begin, l.mask + end, uint8_t(0));
}

Fault check_token(const LossParams& p, const PolicyBatch& b, int64_t row, int64_t sequence) {
  if (b.old_logps && !std::isfinite(b.old_logps[row])) return Fault::old_logp;
  if (p.beta != 0 && !std::isfinite(b.ref_logps[row])) return Fault::ref_logp;
  return std::isfinite(b.advantages[b.advantages_per_token ? row : sequence]) ? Fault::none : Fault::advantage;
}

}  // namespace

int64_t selected_tokens(const Layout& l) {
  int64_t n = 0;
  for (int64_t s = 0; s < l.sequences; ++s) n += selected_in(l, s);
  return n;
}

double default_normalizer(LossType type, const Layout& l, double max_completion_length, bool exclude_empty) {
  if (type == LossType::bnpo || type == LossType::dapo) return double(std::max<int64_t>(selected_tokens(l), 1));
  int64_t n = l.sequences;
  for (int64_t s = 0; s < l.sequences && exclude_empty; ++s) n -= selected_in(l, s) == 0;
  return double(std::max<int64_t>(n, 1)) * (type == LossType::dr_grpo ? max_completion_length : 1.0);
}

Status prepare_tokens(const LossParams& p, const PolicyBatch& b, TokenRecord* records) {
  const Layout& l = b.layout;
  Status status;
  for (int64_t s = 0; s < l.sequences; ++s) {
    const int64_t length = selected_in(l, s);
    const double weight = token_weight(p.loss_type, b.normalizer, length);
    for (int64_t row = begin_of(l, s); row < end_of(l, s); ++row) {
      const bool selected = length > 0 && (!l.mask || l.mask[row]);
      records[row] = {};
      records[row].sequence = int32_t(s);
      records[row].selected = selected;
      records[row].weight = selected ? weight : 0.0;
      if (!selected || !status.ok()) continue;
      const Fault fault = check_token(p, b, row, s);
      if (fault != Fault::none) status = {fault, row};
    }
  }
  return status;
}

double token_step(const LossParams& p, const PolicyBatch& b, int64_t row, double logp, double entropy, TokenRecord* r) {
  const double old = b.old_logps ? b.old_logps[row] : 0.0;
  const double ref = p.beta != 0 ? b.ref_logps[row] : 0.0;
  const double advantage = b.advantages[b.advantages_per_token ? row : r->sequence];
  const TokenLoss<Dual<double>> t = token_slope(p, logp, !b.old_logps, old, ref, advantage);
  r->loss = r->weight * t.loss.value - b.entropy_weight * entropy;
  r->kl = float(t.kl.value);
  r->ratio = float(t.ratio.value);
  r->entropy = float(entropy);
  r->clipped_low = t.clipped_low;
  r->clipped_high = t.clipped_high;
  return r->weight * t.loss.slope;
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

Status policy_loss(const Context& context, const LossParams& p, const PolicyLossArgs& a, PolicyMetrics* metrics) {
  const Layout& l = a.batch.layout;
  Status status = prepare_tokens(p, a.batch, a.records);
  for (int64_t row = 0; row < l.rows && status.ok(); ++row) {
    const float logp = a.logps[row];
    if (a.records[row].selected && !(logp <= std::numeric_limits<float>::max())) status = {Fault::logp, row};
  }
  if (!status.ok()) return status;
  parallel_for(context, l.rows, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      TokenRecord* r = a.records + row;
      const double entropy = r->selected && a.entropies ? a.entropies[row] : 0.0;
      a.grad_logps[row] = r->selected ? float(token_step(p, a.batch, row, a.logps[row], entropy, r)) : 0.0f;
      if (a.grad_entropies) a.grad_entropies[row] = r->selected ? float(-a.batch.entropy_weight) : 0.0f;
    }
  });
  *metrics = collect_metrics(l, a.records);
  return {};
}

}  // namespace fg::kernels
