#pragma once
// Group-relative advantages, fp64 and two-pass. arXiv:2402.03300 section 4.1.2 (z-score in the group), arXiv:2503.20783
// (no division by std: scale none), arXiv:2402.14740 (leave-one-out baseline), arXiv:2508.08221 (batch std).
#include <cstdint>

#include "math/scalar.h"

namespace fg {

enum class RewardScale : uint8_t { group, batch, none };
enum class Baseline : uint8_t { group_mean, leave_one_out, batch_mean, none };
enum class RewardTransform : uint8_t { none, rank };

struct AdvantageOptions {
  RewardScale scale = RewardScale::group;
  Baseline baseline = Baseline::group_mean;
  RewardTransform transform = RewardTransform::none;
  int ddof = 1;
  double eps = 1e-4;
  bool exclude_non_finite = false;
};

struct GroupStats {
  int64_t count = 0;  // finite rewards
  double mean = 0, std = 0;
  bool constant = true;  // all finite rewards equal: their advantages are exactly 0
};

/// Mean and standard deviation of the finite values; 0 for fewer than ddof + 1 of them. The mean is formed on
/// differences from the first value, so that equal rewards give exactly their value and large offsets cost nothing.
inline FG_HD GroupStats group_stats(const double* x, int64_t n, int ddof) {
  GroupStats s;
  double first = 0, sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) continue;
    if (s.count++ == 0) first = x[i];
    s.constant = s.constant && x[i] == first;
    sum += x[i] - first;
  }
  if (s.count == 0) return s;
  s.mean = first + sum / double(s.count);
  double squares = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(x[i])) squares += (x[i] - s.mean) * (x[i] - s.mean);
  if (s.count > ddof && !s.constant) s.std = std::sqrt(squares / double(s.count - ddof));
  return s;
}

/// The advantage of reward r in its group, given what the baseline and the scale look at.
inline FG_HD double advantage(const AdvantageOptions& o, double r, const GroupStats& group, const GroupStats& batch) {
  if (!std::isfinite(r)) return 0;
  const bool by_batch = o.baseline == Baseline::batch_mean;
  if (o.baseline != Baseline::none && (by_batch ? batch : group).constant) return 0;
  double a = r;
  if (o.baseline == Baseline::group_mean) a = r - group.mean;
  if (o.baseline == Baseline::batch_mean) a = r - batch.mean;
  // r minus the mean of the others = (r - mean) n / (n - 1)
  if (o.baseline == Baseline::leave_one_out) a = (r - group.mean) * double(group.count) / double(group.count - 1);
  if (o.scale == RewardScale::group) a /= group.std + o.eps;
  if (o.scale == RewardScale::batch) a /= batch.std + o.eps;
  return a;
}

/// Replaces the finite values by their average ranks (1-based; ties share the mean of their places).
inline FG_HD void rank_transform(const double* x, int64_t n, double* ranks) {
  for (int64_t i = 0; i < n; ++i) {
    int64_t below = 0, equal = 0;
    for (int64_t j = 0; j < n; ++j) below += x[j] < x[i], equal += x[j] == x[i];
    ranks[i] = std::isfinite(x[i]) ? double(below) + 0.5 * double(equal + 1) : x[i];
  }
}

}  // namespace fg
