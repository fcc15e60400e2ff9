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

/// One thread by itself; kernels pass a warp that shares the work (kernels/cuda/team.h).
struct Alone {
  FG_HD int64_t index() const { return 0; }
  FG_HD int64_t size() const { return 1; }
  FG_HD double sum(double v) const { return v; }
  FG_HD int64_t least(int64_t v) const { return v; }
  FG_HD bool all(bool v) const { return v; }
};

/// Mean and standard deviation of the finite ones of x(0) ... x(n - 1); 0 for fewer than ddof + 1 of them. The mean is
/// formed on differences from the first value, so that equal rewards give exactly their value and large offsets cost
/// nothing.
template <class Team, class Read>
inline FG_HD GroupStats group_stats(const Team& team, Read x, int64_t n, int ddof) {
  GroupStats s;
  int64_t first_at = n;
  for (int64_t i = team.index(); i < n && first_at == n; i += team.size())
    if (is_finite(x(i))) first_at = i;
  first_at = team.least(first_at);
  if (first_at == n) return s;
  const double first = x(first_at);
  double sum = 0, count = 0;
  bool constant = true;
  for (int64_t i = team.index(); i < n; i += team.size()) {
    const double v = x(i);
    if (!is_finite(v)) continue;
    ++count;
    constant = constant && v == first;
    sum += v - first;
  }
  s.count = int64_t(team.sum(count));
  s.constant = team.all(constant);
  s.mean = first + team.sum(sum) / double(s.count);
  double squares = 0;
  for (int64_t i = team.index(); i < n; i += team.size()) {
    const double v = x(i);
    if (is_finite(v)) squares += (v - s.mean) * (v - s.mean);
  }
  squares = team.sum(squares);
  if (s.count > ddof && !s.constant) s.std = std::sqrt(squares / double(s.count - ddof));
  return s;
}

/// The advantage of reward r in its group, given what the baseline and the scale look at.
inline FG_HD double advantage(const AdvantageOptions& o, double r, const GroupStats& group, const GroupStats& batch) {
  if (!is_finite(r)) return 0;
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

/// The average rank of x(i) among x(0) ... x(n - 1) (1-based; ties share the mean of their places); x(i) itself when it
/// is not finite.
template <class Read>
inline FG_HD double rank_of(Read x, int64_t n, int64_t i) {
  const double v = x(i);
  int64_t below = 0, equal = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double other = x(j);
    below += other < v, equal += other == v;
  }
  return is_finite(v) ? double(below) + 0.5 * double(equal + 1) : v;
}

}  // namespace fg
