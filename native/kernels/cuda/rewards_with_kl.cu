// Rewards less the KL of their completions: one warp a sequence.
#include "math/rewards_with_kl.h"

#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::RewardsWithKlArgs a;
  Tally* tallies;
};

FG_DEVICE double token(const Task& t, int64_t row, FaultKey& fault) {
  const float logp = load(t.a.logps + row), ref = load(t.a.ref_logps + row);
  note(fault, Stage::tokens, row, kernels::kl_fault(logp, ref));
  return reward_kl(t.a.estimator, logp, ref);
}

FG_DEVICE void sequence(const Task& t, int64_t s, FaultKey& fault) {
  const RowRange rows = rows_of(t.a.layout, s);
  double kl = 0;
  for (int64_t row = rows.begin + lane(); row < rows.end && t.a.beta != 0; row += 32)
    if (in_mask(t.a.layout, row)) kl += token(t, row, fault);
  kl = WarpTeam{}.sum(kl);
  if (lane() != 0) return;
  const double reward = load(t.a.rewards + s);
  if (!is_finite(reward)) note(fault, Stage::rewards, s, kernels::Fault::reward);
  store(t.a.out + s, reward - t.a.beta * kl);
}

FG_KERNEL(kTallyThreads, 1) reward_sequences(const Task t) {
  FaultKey fault = kNoFault;
  for (int64_t s = grid_warp(); s < t.a.layout.sequences; s += grid_warps()) sequence(t, s, fault);
  leave_tally(t.tallies, fault);
}

}  // namespace

Launch rewards_with_kl(const Context& context, const kernels::RewardsWithKlArgs& a, void* workspace,
                       TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.layout.sequences, kTallyThreads / 32);
  const Launch l = FG_LAUNCH(reward_sequences, shape, context.stream, (Task{a, static_cast<Tally*>(workspace)}));
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t rewards_with_kl_workspace() { return kTallyBytes; }

}  // namespace fg::cuda
