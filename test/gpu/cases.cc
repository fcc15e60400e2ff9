#include "cases.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace fg::check {

int64_t Case::sequence_of(int64_t row) const {
  int64_t s = 0;
  while (!offsets.empty() && offsets[size_t(s + 1)] <= row) ++s;
  return s;
}
int64_t Case::length_of(int64_t sequence) const {
  return offsets.empty() ? rows : offsets[size_t(sequence + 1)] - offsets[size_t(sequence)];
}
int64_t Case::at(const Rows& r, int64_t row) const {
  const int64_t s = sequence_of(row);
  return r.at(row, s, row - (offsets.empty() ? 0 : offsets[size_t(s)]));
}
bool Case::selected(int64_t row) const {
  return (mask.empty() || mask[size_t(row)]) && (truncated.empty() || !truncated[size_t(sequence_of(row))]);
}

namespace {

// The steps of make_case, in the order in which they draw: another order is another set of cases.

void make_sequences(Random& d, Case* c) {
  const int64_t v = c->vocab;
  c->rows = 1 + d.below(quick ? 4 : v <= 1000 ? 40 : v <= 4097 ? 20 : v <= 50257 ? 8 : 4);
  if (!d.chance(0.8)) return;
  c->sequences = 1 + d.below(std::min<int64_t>(c->rows, 8));
  c->offsets.push_back(0);
  for (int64_t s = 1; s < c->sequences; ++s) c->offsets.push_back(int32_t(d.below(c->rows + 1)));
  c->offsets.push_back(int32_t(c->rows));
  std::sort(c->offsets.begin(), c->offsets.end());
}

/// A matrix of the case's rows with room before, between and after them, each byte of it `filler`.
Rows make_matrix(Random& d, const Case& c, unsigned char filler, int64_t* base, Bytes* memory) {
  int64_t longest = 0, last = 0;
  for (int64_t s = 0; s < c.sequences; ++s) longest = std::max(longest, c.length_of(s));
  Rows r{nullptr, c.dtype, c.vocab, c.vocab + (d.chance(0.5) ? d.below(10) : 0), 0};
  if (!c.offsets.empty() && d.chance(0.3))
    r.sequence_stride = std::max<int64_t>(longest, 1) * r.row_stride + d.below(9);
  *base = d.chance(0.6) ? d.below(9) : 0;
  for (int64_t i = 0; i < c.rows; ++i) last = std::max(last, c.at(r, i));
  memory->assign(size_t((*base + last + c.vocab + d.below(9)) * size_of(c.dtype)), filler);
  return r;
}

void make_mask(Random& d, Case* c) {
  if (d.chance(0.6))
    for (int64_t i = 0; i < c->rows; ++i) c->mask.push_back(d.chance(0.75));
  if (d.chance(0.2))
    for (int64_t i = 0; i < c->sequences; ++i) c->truncated.push_back(d.chance(0.25));
}

void make_logits(Random& d, Case* c) {
  const double spread = d.chance(0.2) ? 25 : 5;
  for (int64_t i = 0; i < c->rows; ++i) {
    void* row = c->logits.data() + (c->base + c->at(c->shape, i)) * size_of(c->dtype);
    const bool use = c->selected(i);
    for (int64_t j = 0; j < c->vocab; ++j)
      put(row, c->dtype, j, use ? float(spread * d.normal()) : NAN);  // NaN: never read
    c->targets.push_back(int32_t(d.below(c->vocab)));
    if (use && d.chance(0.5)) put(row, c->dtype, c->targets.back(), float(2 * spread));  // a likely token
  }
}

/// A loss type with the level and the bounds that it can have.
void make_surrogate(Random& d, LossParams* p) {
  p->loss_type = LossType(d.chance(0.5) ? d.below(4) : d.below(13));
  const bool clips = p->loss_type <= LossType::dapo || p->loss_type == LossType::luspo;
  if (clips || p->loss_type == LossType::cispo || p->loss_type == LossType::sapo)
    p->level = d.chance(0.5) ? RatioLevel::token : RatioLevel(d.below(3));
  if (p->loss_type == LossType::luspo) p->level = RatioLevel::sequence;
  if (p->loss_type == LossType::cispo) p->epsilon_high = 2;
  if (p->loss_type == LossType::gmpo) p->epsilon_low = p->epsilon_high = 0.4;
  if (clips && d.chance(0.3)) p->delta = 1.5;
  if (clips && d.chance(0.3)) p->dual_clip = 3;
  p->dppo_divergence = Divergence(d.below(2));
  p->clip_cov_low = 0.01, p->clip_cov_ratio = p->kl_cov_ratio = 0.2;
}

void make_factor(Random& d, LossParams* p) {
  const bool vespo = p->loss_type == LossType::vespo;
  if (d.chance(0.3)) p->sampler = SamplerCorrection(1 + d.below(vespo ? 2 : 4));
  if (d.chance(0.2)) p->off_policy_threshold = 0.05;
  if (d.chance(0.2)) p->top_entropy_quantile = 0.45;
}

void make_loss(Random& d, Case* c) {
  c->temperature = d.chance(0.3) ? 1 : 0.6 + d.unit();
  c->entropy_weight = d.chance(0.4) ? 0.02 * d.unit() : 0;
  c->entropy = c->entropy_weight != 0 || d.chance(0.3);
  make_surrogate(d, &c->params);
  c->params.kl = KlEstimator(d.below(3)), c->params.kl_gradient = KlGradient(d.below(3));
  c->params.bias_correction_kl = d.chance(0.5), c->params.beta = d.chance(0.5) ? 0.04 : 0;
  make_factor(d, &c->params);
  Place host(false);
  c->normalizer = default_normalizer(c->params.loss_type, c->layout(host), 64, false);
}

/// Old and reference log-probs near the batch's own, and away from where the clip's derivative jumps.
void make_tokens(Random& d, Case* c) {
  const Result own = run_logp(*c, false);
  const double away[] = {-0.5, -0.1, 0.0, 0.1, 0.3, 0.55};
  const bool old = d.chance(0.7);
  for (int64_t i = 0; i < c->rows; ++i) {
    const bool use = c->selected(i);
    const float logp = own.logps[size_t(i)];
    if (old) c->old_logps.push_back(use ? float(logp - d.near(away[d.below(6)])) : NAN);
    if (c->params.sampler != SamplerCorrection::none)
      c->sampler_logps.push_back(use ? float(logp + 0.3 * d.normal()) : NAN);
    if (c->params.beta != 0) c->ref_logps.push_back(use ? float(logp + 0.6 * d.normal()) : NAN);
    c->grad_logps.push_back(d.chance(0.1) ? 0 : float(2 * d.normal()));
    c->entropies.push_back(use ? float(3 * d.unit()) : 0);
    c->logps.push_back(use ? logp : 0);
  }
  if (d.chance(0.4))
    for (int64_t i = 0; i < c->rows; ++i) c->grad_entropies.push_back(float(0.1 * d.normal()));
}

void make_advantages(Random& d, Case* c) {
  c->per_token = d.chance(0.25);
  const int64_t count = c->per_token ? c->rows : c->sequences;
  for (int64_t i = 0; i < count; ++i) c->advantages.push_back(float(1.5 * d.normal()));
  if (!d.chance(0.5)) return;
  for (int64_t i = 0; i < c->sequences; ++i) c->rewards.push_back(d.chance(0.3) ? 1.0 : 3 * d.normal());
  c->groups.push_back(0);
  while (c->groups.back() < c->sequences)
    c->groups.push_back(int32_t(std::min(c->sequences, c->groups.back() + 2 + d.below(4))));
  c->options.scale = RewardScale(d.below(3)), c->options.transform = RewardTransform(d.below(2));
  c->options.baseline = Baseline(std::array<int, 3>{0, 2, 3}[size_t(d.below(3))]);
}

}  // namespace

Case make_case(uint64_t seed, int64_t vocab) {
  Random d{seed * 0x9E3779B97F4A7C15ull + 1};
  for (int i = 0; i < 4; ++i) d.bits();
  Case c;
  c.seed = seed, c.vocab = vocab;
  c.dtype = DType(seed % 3);
  make_sequences(d, &c);
  c.shape = make_matrix(d, c, 0x5A, &c.base, &c.logits);
  c.grad_shape = make_matrix(d, c, 0x3C, &c.grad_base, &c.grad);
  make_mask(d, &c);
  make_logits(d, &c);
  make_loss(d, &c);
  make_tokens(d, &c);
  make_advantages(d, &c);
  return c;
}

}  // namespace fg::check
