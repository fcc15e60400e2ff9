#pragma once
// Which tokens a batch statistic picks: the entropy quantile and the covariance of clip_cov and kl_cov. docs/losses.md.
#include <cmath>
#include <cstdint>

#include "math/scalar.h"

namespace fg {

/// Where a quantile lies among n values in order: value(low) + fraction * (value(low + 1) - value(low)).
struct QuantileRank {
  int64_t low;
  double fraction;
};

/// Linear interpolation, as torch.quantile. 0.8 * 10 must be 8 whatever its rounding: ranks within 1e-6 of an integer
/// are that integer.
inline FG_HD QuantileRank quantile_rank(double q, int64_t n) {
  const double rank = q * double(n - 1), nearest = std::round(rank);
  if (std::fabs(rank - nearest) < 1e-6) return {int64_t(nearest), 0};
  const double low = std::floor(rank);
  return {int64_t(low), rank - low};
}

/// How many of n tokens a share of them is, at least 1.
inline FG_HD int64_t chosen_count(double share, int64_t n) {
  const auto k = int64_t(share * double(n));
  return k > 1 ? k : 1;
}

/// A token's place in a fixed random order: clip_cov picks the smallest keys. A 32-bit finaliser (prospector's
/// "lowbias32").
inline FG_HD uint32_t random_key(uint32_t seed, int64_t position) {
  uint32_t h = uint32_t(position) + 0x9E3779B9u * (seed + 1u);
  h ^= h >> 16, h *= 0x7FEB352Du;
  h ^= h >> 15, h *= 0x846CA68Bu;
  return h ^ h >> 16;
}

}  // namespace fg
