// Rewards of steps -> advantages of tokens: normalised over all steps of the group, then summed from the last step
// back.
#include "math/process_advantages.h"

#include "kernels/cpu/tokens.h"
#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

void write_group(const ProcessAdvantagesArgs& a, int64_t g, double* normalised) {
  const int64_t begin = a.step_offsets[a.group_offsets[g]], end = a.step_offsets[a.group_offsets[g + 1]];
  const auto reward = [&](int64_t i) { return a.step_rewards[begin + i]; };
  const GroupStats of = group_stats(Alone{}, reward, end - begin, a.options.ddof);
  for (int64_t i = begin; i < end; ++i) normalised[i] = advantage(a.options, a.step_rewards[i], of, of);
  a.results.mean[g] = float(of.mean);
  a.results.std[g] = float(of.std);
  a.results.zero_std[g] = of.constant;
}

void write_sequence(const ProcessAdvantagesArgs& a, int64_t s, const double* normalised) {
  const int64_t first = a.step_offsets[s];
  int64_t step = a.step_offsets[s + 1];
  double sum = 0;
  for (int64_t row = end_of(a.layout, s) - 1; row >= begin_of(a.layout, s); --row) {
    while (step > first && a.step_ends[step - 1] >= row) sum += normalised[--step];
    a.advantages[row] = float(sum);
  }
}

}  // namespace

Status process_advantages(const ProcessAdvantagesArgs& a, void* workspace) {
  for (int64_t i = 0; i < a.steps; ++i)
    if (!is_finite(a.step_rewards[i])) return {Fault::step_reward, i};
  auto* normalised = static_cast<double*>(workspace);
  for (int64_t g = 0; g < a.groups; ++g) write_group(a, g, normalised);
  for (int64_t s = 0; s < a.layout.sequences; ++s) write_sequence(a, s, normalised);
  return {};
}

}  // namespace fg::kernels
