// Process supervision: one block a group, one warp a sequence, 32 tokens at a time from the last back.
#include "math/process_advantages.h"

#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::ProcessAdvantagesArgs a;
  Tally* tallies;
};

/// Of this lane and all later ones.
FG_DEVICE double sum_from(double v) {
  for (int d = 1; d < 32; d *= 2) {
    const bool has = lane() + d < 32;
    const double later = shuffle(v, has ? lane() + d : lane());
    v += has ? later : 0.0;
  }
  return v;
}

FG_DEVICE void sequence(const Task& t, int64_t s, const GroupStats& group) {
  const RowRange rows = rows_of(t.a.layout, s);
  const int64_t first = load(t.a.step_offsets + s), steps = load(t.a.step_offsets + s + 1) - first;
  const auto step_end = [&](int64_t i) { return int64_t(load(t.a.step_ends + first + i)); };
  double after = 0;
  for (int64_t end = rows.end; end > rows.begin; end -= 32) {
    const int64_t row = end - 32 + lane();
    double own = 0;  // of the step that ends here
    if (row >= rows.begin) {
      const int64_t step = step_from(step_end, steps, row);
      if (step < steps && step_end(step) == row)
        own = advantage(t.a.options, load(t.a.step_rewards + first + step), group, group);
    }
    const double sum = sum_from(own) + after;
    if (row >= rows.begin) store(t.a.advantages + row, float(sum));
    after = shuffle(sum, 0);
  }
}

/// Every warp finds the group's statistics by itself: cheaper than handing them on.
FG_DEVICE void group(const Task& t, int64_t g, FaultKey& fault) {
  const int64_t begin = load(t.a.group_offsets + g), end = load(t.a.group_offsets + g + 1);
  const int64_t first = load(t.a.step_offsets + begin), steps = load(t.a.step_offsets + end) - first;
  const auto reward = [&](int64_t i) { return load(t.a.step_rewards + first + i); };
  for (int64_t i = thread(); i < steps; i += threads())
    if (!is_finite(reward(i))) note(fault, Stage::rewards, first + i, kernels::Fault::step_reward);
  const GroupStats of = group_stats(WarpTeam{}, reward, steps, t.a.options.ddof);
  for (int64_t s = begin + warp(); s < end; s += threads() / 32) sequence(t, s, of);
  if (thread() != 0) return;
  store(t.a.results.mean + g, float(of.mean));
  store(t.a.results.std + g, float(of.std));
  store(t.a.results.zero_std + g, uint8_t(of.constant));
}

FG_KERNEL(kTallyThreads, 1) process_groups(const Task t) {
  FaultKey fault = kNoFault;
  for (int64_t g = block(); g < t.a.groups; g += blocks()) group(t, g, fault);
  leave_tally(t.tallies, fault);
}

}  // namespace

Launch process_advantages(const Context& context, const kernels::ProcessAdvantagesArgs& a, void* workspace,
                          TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.groups, 1);
  const Launch l = FG_LAUNCH(process_groups, shape, context.stream, (Task{a, static_cast<Tally*>(workspace)}));
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t process_advantages_workspace() { return kTallyBytes; }

}  // namespace fg::cuda
