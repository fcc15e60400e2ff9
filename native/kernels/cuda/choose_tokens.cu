// What a statistic of the batch picks: the entropy at a quantile, the tokens of largest covariance. Token-sized, one
// block: an order statistic by digits of 8 bits (radix selection).
#include <bit>

#include "kernels/cuda/row_step.h"
#include "math/batch_choice.h"
#include "math/sequence_sums.h"

namespace fg::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr uint32_t kNotEligible = ~0u;

struct Task {
  RowTask rows;
  TokenArrays arrays;
  double entropy_coef;
};

/// Bits that order as the number does, and back; -0 and 0 are one number. No finite number gives kNotEligible.
FG_DEVICE uint32_t ordered(float v) {
  const auto bits = std::bit_cast<uint32_t>(v + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
FG_DEVICE float number_of(uint32_t key) { return std::bit_cast<float>(key >> 31 ? key & 0x7FFFFFFFu : ~key); }

/// How many keys are below `key`, or equal to it. Every thread gets both.
struct Place {
  int64_t below, equal;
};
FG_DEVICE Place place_of(const Task& t, uint32_t key) {
  double below = 0, equal = 0;
  for (int64_t row = thread(); row < t.rows.rows; row += threads()) {
    const uint32_t k = load(t.rows.workspace.keys + row);
    below += k < key, equal += k == key;
  }
  return {int64_t(block_sum(below)), int64_t(block_sum(equal))};
}

/// The key at `rank` (0-based) in order; there are more eligible keys than that.
FG_DEVICE uint32_t key_at(const Task& t, int64_t rank) {
  FG_SHARED(uint32_t, counts, 256);
  FG_SHARED(uint32_t, found, 2);  // the digit, and the rank left inside it
  uint32_t prefix = 0, left = uint32_t(rank);
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = thread(); i < 256; i += threads()) counts[i] = 0u;
    sync();
    for (int64_t row = thread(); row < t.rows.rows; row += threads()) {
      const uint32_t k = load(t.rows.workspace.keys + row);
      const bool inside = k != kNotEligible && (shift == 24 || k >> (shift + 8) == prefix >> (shift + 8));
      if (inside) atomic_add(counts + int(k >> shift & 255), 1u);
    }
    sync();
    if (thread() == 0) {
      uint32_t digit = 0, before = 0;
      while (digit < 255 && before + uint32_t(counts[int(digit)]) <= left)
        before += uint32_t(counts[int(digit)]), ++digit;
      found[0] = digit, found[1] = left - before;
    }
    sync();
    prefix |= uint32_t(found[0]) << shift;
    left = found[1];
  }
  return prefix;
}

/// The smallest key above `key`.
FG_DEVICE uint32_t key_after(const Task& t, uint32_t key) {
  FaultKey least = kNoFault;
  for (int64_t row = thread(); row < t.rows.rows; row += threads()) {
    const uint32_t k = load(t.rows.workspace.keys + row);
    if (k > key && k < least) least = k;
  }
  return uint32_t(block_least(least));
}

FG_DEVICE float advantage_of(const Task& t, int64_t row, const RowPlan& plan) {
  return load(t.rows.advantages + (t.rows.advantages_per_token ? row : plan.sequence));
}

/// Writes every row's key: `key(row, plan)` of the selected ones. The result is how many are selected.
template <class Key>
FG_DEVICE int64_t write_keys(const Task& t, const Key& key) {
  double selected = 0;
  for (int64_t row = thread(); row < t.rows.rows; row += threads()) {
    const RowPlan plan = load(t.rows.workspace.plan + row);
    selected += plan.selected();
    store(t.rows.workspace.keys + row, plan.selected() ? key(row, plan) : kNotEligible);
  }
  const int64_t n = int64_t(block_sum(selected));  // its syncs also publish the keys to the block
  return n;
}

FG_DEVICE float quantile_threshold(const Task& t) {
  const LossParams& p = t.rows.params;
  if (p.top_entropy_quantile >= 1) return float(p.entropy_threshold);
  const int64_t n = write_keys(t, [&](int64_t row, const RowPlan&) { return ordered(load(t.arrays.entropies + row)); });
  if (n == 0) return float(p.entropy_threshold);
  const QuantileRank rank = quantile_rank(1 - p.top_entropy_quantile, n);
  const uint32_t low = key_at(t, rank.low);
  const float at = number_of(low);
  if (rank.fraction == 0) return at;
  const Place place = place_of(t, low);
  const float next = place.below + place.equal > rank.low + 1 ? at : number_of(key_after(t, low));
  return float(at + rank.fraction * (double(next) - at));
}

/// Selected tokens whose entropy reaches the threshold.
FG_DEVICE int64_t count_kept(const Task& t, float threshold) {
  double kept = 0;
  for (int64_t row = thread(); row < t.rows.rows; row += threads())
    kept += load(t.rows.workspace.plan + row).selected() && load(t.arrays.entropies + row) >= threshold;
  return int64_t(block_sum(kept));
}

/// The key of a token by its covariance: small keys are chosen first.
struct CovarianceKey {
  const Task& t;
  double mean_advantage, mean_logp;

  FG_DEVICE bool clipped(int64_t row, float logp, float advantage) const {
    const LossParams& p = t.rows.params;
    const float w = t.rows.old_logps ? logp - load(t.rows.old_logps + row) : 0.0f;
    const float ratio = std::exp(at_most(w, kMaxLogRatio));
    return between(ratio, 1 - p.epsilon_low, 1 + p.epsilon_high) * advantage < ratio * advantage;
  }
  FG_DEVICE uint32_t operator()(int64_t row, const RowPlan& plan) const {
    const LossParams& p = t.rows.params;
    const float logp = load(t.arrays.logps + row), advantage = advantage_of(t, row, plan);
    const auto covariance = float((advantage - mean_advantage) * (logp - mean_logp));
    if (p.loss_type == LossType::kl_cov) return ~ordered(covariance);
    const bool inside = covariance > float(p.clip_cov_low) && covariance < float(p.clip_cov_high);
    if (!inside || clipped(row, logp, advantage)) return kNotEligible;
    const uint32_t key = random_key(p.clip_cov_seed, row);
    return key == kNotEligible ? key - 1 : key;
  }
};

/// Rows with keys up to `last` are chosen, but of those equal to it only the first `ties`.
FG_DEVICE void mark_chosen(const Task& t, uint32_t last, int64_t ties) {
  int64_t seen = 0;
  for (int64_t first = 0; first < t.rows.rows; first += threads()) {
    const int64_t row = first + thread();
    const uint32_t key = row < t.rows.rows ? load(t.rows.workspace.keys + row) : kNotEligible;
    const bool tie = row < t.rows.rows && key == last;
    FG_SHARED(uint32_t, ties_of_warp, 32);
    const uint32_t votes = ballot(tie);
    sync();
    if (lane() == 0) ties_of_warp[warp()] = count_bits(votes);
    sync();
    int64_t before = seen + count_bits(votes & ((1u << lane()) - 1));
    for (int w = 0; w < threads() / 32; ++w) {
      const auto n = int64_t(uint32_t(ties_of_warp[w]));
      before += w < warp() ? n : 0;
      seen += n;
    }
    const bool chosen = key != kNotEligible && (key < last || (tie && before < ties));
    if (row < t.rows.rows) store(t.rows.workspace.chosen + row, uint8_t(chosen));
  }
}

FG_DEVICE void choose_by_covariance(const Task& t) {
  const LossParams& p = t.rows.params;
  double advantage = 0, logp = 0, selected = 0;
  for (int64_t row = thread(); row < t.rows.rows; row += threads()) {
    const RowPlan plan = load(t.rows.workspace.plan + row);
    if (!plan.selected()) continue;
    advantage += advantage_of(t, row, plan), logp += load(t.arrays.logps + row), ++selected;
  }
  const double n = block_sum(selected);
  const CovarianceKey key{t, block_sum(advantage) / n, block_sum(logp) / n};
  write_keys(t, key);
  const int64_t eligible = place_of(t, kNotEligible).below;
  const double share = p.loss_type == LossType::kl_cov ? p.kl_cov_ratio : p.clip_cov_ratio;
  const int64_t wanted = chosen_count(share, int64_t(n)), k = wanted < eligible ? wanted : eligible;
  if (k == 0) return mark_chosen(t, 0, 0);
  const uint32_t last = key_at(t, k - 1);
  mark_chosen(t, last, k - place_of(t, last).below);
}

FG_KERNEL(kMaxThreads, 1) choose(const Task t) {
  if (earlier_fault(t.rows.workspace, t.rows.segments) != kNoFault) return;
  const LossParams& p = t.rows.params;
  BatchChoice choice{quantile_threshold(t), t.rows.entropy_weight};
  if (t.entropy_coef != 0) {
    const int64_t kept = count_kept(t, choice.entropy_threshold);
    choice.entropy_weight = float(t.entropy_coef / double(kept > 1 ? kept : 1));
  }
  if (thread() == 0) store(t.rows.workspace.choice, choice);
  if (chooses_by_covariance(p.loss_type)) choose_by_covariance(t);
}

}  // namespace

Launch choose_tokens(void* stream, const RowTask& rows, const TokenArrays& arrays, double entropy_coef) {
  if (!needs_choice(rows.params, entropy_coef)) return {};
  Shape shape;
  shape.blocks = 1;
  shape.threads = rows.rows >= kMaxThreads ? kMaxThreads : int(rows.rows / 32 + 1) * 32;
  const Task task{rows, arrays, entropy_coef};
  return FG_LAUNCH(choose, shape, stream, task);
}

}  // namespace fg::cuda
