// Rewards of groups -> advantages. Token-sized at most: serial, fp64.
#include <cmath>

#include "kernels/kernels.h"
#include "math/advantage.h"

namespace fg::kernels {
namespace {

Status check_rewards(const double* rewards, int64_t n, const AdvantageOptions& options) {
  for (int64_t i = 0; i < n && !options.exclude_non_finite; ++i)
    if (!std::isfinite(rewards[i])) return {Fault::reward, i};
  return {};
}

}  // namespace

size_t group_advantages_workspace(int64_t n) { return size_t(n) * sizeof(double); }

Status group_advantages(const double* rewards, int64_t n, const int32_t* group_offsets, int64_t groups,
                        const AdvantageOptions& options, float* advantages, float* mean, float* std, uint8_t* zero_std,
                        void* workspace) {
  if (const Status s = check_rewards(rewards, n, options); !s.ok()) return s;
  auto* values = static_cast<double*>(workspace);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = group_offsets[g], count = group_offsets[g + 1] - begin;
    const auto reward = [&](int64_t i) { return rewards[begin + i]; };
    for (int64_t i = 0; i < count; ++i)
      values[begin + i] = options.transform == RewardTransform::rank ? rank_of(reward, count, i) : reward(i);
  }
  const GroupStats batch = group_stats(Alone{}, [&](int64_t i) { return values[i]; }, n, options.ddof);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = group_offsets[g], end = group_offsets[g + 1];
    const GroupStats group =
        group_stats(Alone{}, [&](int64_t i) { return values[begin + i]; }, end - begin, options.ddof);
    for (int64_t i = begin; i < end; ++i) advantages[i] = float(advantage(options, values[i], group, batch));
    if (mean) mean[g] = float(group.mean);
    if (std) std[g] = float(group.std);
    if (zero_std) zero_std[g] = group.constant;
  }
  return {};
}

}  // namespace fg::kernels
