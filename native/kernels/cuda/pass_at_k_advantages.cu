// Advantages for Pass@k: one warp a group.
#include "math/pass_at_k_advantages.h"

#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::PassAtKArgs a;
  Tally* tallies;
};

FG_DEVICE void group(const Task& t, int64_t g, FaultKey& fault) {
  const int64_t begin = load(t.a.group_offsets + g), end = load(t.a.group_offsets + g + 1);
  double wrong = 0;
  for (int64_t i = begin + lane(); i < end; i += 32) {
    const double reward = load(t.a.rewards + i);
    note(fault, Stage::rewards, i, kernels::binary_fault(reward));
    wrong += reward == 0;
  }
  const PassAtK of = pass_at_k(end - begin, int64_t(WarpTeam{}.sum(wrong)), t.a.k);
  for (int64_t i = begin + lane(); i < end; i += 32)
    store(t.a.advantages + i, float(load(t.a.rewards + i) == 1 ? of.right : of.wrong));
  if (lane() == 0) store(t.a.pass_at_k + g, float(of.pass));
}

FG_KERNEL(kTallyThreads, 1) pass_at_k_groups(const Task t) {
  FaultKey fault = kNoFault;
  for (int64_t g = grid_warp(); g < t.a.groups; g += grid_warps()) group(t, g, fault);
  leave_tally(t.tallies, fault);
}

}  // namespace

Launch pass_at_k_advantages(const Context& context, const kernels::PassAtKArgs& a, void* workspace,
                            TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.groups, kTallyThreads / 32);
  const Launch l = FG_LAUNCH(pass_at_k_groups, shape, context.stream, (Task{a, static_cast<Tally*>(workspace)}));
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t pass_at_k_advantages_workspace() { return kTallyBytes; }

}  // namespace fg::cuda
