// What a batch statistic picks: tokens above an entropy quantile, tokens of large covariance. Serial: token-sized.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/tokens.h"
#include "math/batch_choice.h"
#include "math/sequence_sums.h"

namespace fg::kernels {
namespace {

double entropy_threshold(const LossParams& p, const Layout& l, const TokenRecord* records) {
  if (p.top_entropy_quantile >= 1) return p.entropy_threshold;
  std::vector<double> entropies;
  for (int64_t row = 0; row < l.rows; ++row)
    if (records[row].selected) entropies.push_back(records[row].entropy);
  if (entropies.empty()) return p.entropy_threshold;
  const QuantileRank rank = quantile_rank(1 - p.top_entropy_quantile, int64_t(entropies.size()));
  const auto at = entropies.begin() + rank.low;
  std::nth_element(entropies.begin(), at, entropies.end());
  if (rank.fraction == 0) return *at;
  return *at + rank.fraction * (*std::min_element(at + 1, entropies.end()) - *at);
}

/// A token that may be chosen: larger `rank` first, then lower rows.
struct Candidate {
  double rank;
  int64_t row;
};

bool clipped_already(const LossParams& p, const PolicyBatch& b, int64_t row, const TokenRecord& r) {
  const double w = b.old_logps ? r.logp - b.old_logps[row] : 0.0, a = advantage_of(b, row, r);
  const double ratio = std::exp(at_most(w, kMaxLogRatio));
  return between(ratio, 1 - p.epsilon_low, 1 + p.epsilon_high) * a < ratio * a;
}

std::vector<Candidate> candidates(const LossParams& p, const PolicyBatch& b, const TokenRecord* records, int64_t n) {
  double logp = 0, advantage = 0;
  for (int64_t row = 0; row < b.layout.rows; ++row)
    if (records[row].selected) logp += records[row].logp, advantage += advantage_of(b, row, records[row]);
  logp /= double(n), advantage /= double(n);
  std::vector<Candidate> found;
  for (int64_t row = 0; row < b.layout.rows; ++row) {
    const TokenRecord& r = records[row];
    if (!r.selected) continue;
    const double covariance = (advantage_of(b, row, r) - advantage) * (r.logp - logp);
    if (p.loss_type == LossType::kl_cov) {
      found.push_back({covariance, row});
    } else if (covariance > p.clip_cov_low && covariance < p.clip_cov_high && !clipped_already(p, b, row, r)) {
      found.push_back({-double(random_key(p.clip_cov_seed, row)), row});
    }
  }
  return found;
}

void choose_by_covariance(const LossParams& p, const PolicyBatch& b, TokenRecord* records, int64_t n) {
  std::vector<Candidate> list = candidates(p, b, records, n);
  const double share = p.loss_type == LossType::kl_cov ? p.kl_cov_ratio : p.clip_cov_ratio;
  const auto end = list.begin() + std::min<int64_t>(chosen_count(share, n), int64_t(list.size()));
  std::partial_sort(list.begin(), end, list.end(), [](const Candidate& x, const Candidate& y) {
    return x.rank != y.rank ? x.rank > y.rank : x.row < y.row;
  });
  for (auto c = list.begin(); c != end; ++c) records[c->row].chosen = true;
}

}  // namespace

int64_t choose_tokens(const LossParams& p, const PolicyBatch& b, TokenRecord* records) {
  const double threshold = entropy_threshold(p, b.layout, records);
  int64_t selected = 0, kept = 0;
  for (int64_t row = 0; row < b.layout.rows; ++row) {
    TokenRecord& r = records[row];
    r.kept = r.selected && r.entropy >= threshold;
    selected += r.selected, kept += r.kept;
  }
  if (chooses_by_covariance(p.loss_type) && selected > 0) choose_by_covariance(p, b, records, selected);
  return kept;
}

}  // namespace fg::kernels
