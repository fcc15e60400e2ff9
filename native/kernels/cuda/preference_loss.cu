// The reward model's loss: one thread a pair.
#include "math/preference_loss.h"

#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::PreferenceLossArgs a;
  Tally* tallies;
};

FG_DEVICE void pair(const Task& t, int64_t i, kernels::Totals& totals, FaultKey& fault) {
  const float chosen = load(t.a.chosen + i), rejected = load(t.a.rejected + i);
  const float margin = t.a.margins ? load(t.a.margins + i) : 0.0f;
  note(fault, Stage::tokens, i, kernels::preference_fault(chosen, rejected, margin));
  const PreferenceLoss p = preference_pair(chosen, rejected, margin, t.a.center_coefficient);
  totals.loss += p.loss / t.a.normalizer;
  totals.margin += double(chosen) - rejected;
  ++totals.count, totals.ranked += chosen > rejected;
  store(t.a.grad_chosen + i, float(p.by_chosen / t.a.normalizer));
  store(t.a.grad_rejected + i, float(p.by_rejected / t.a.normalizer));
}

FG_KERNEL(kTallyThreads, 1) preference_pairs(const Task t) {
  kernels::Totals totals;
  FaultKey fault = kNoFault;
  for (int64_t i = block() * threads() + thread(); i < t.a.pairs; i += blocks() * threads()) pair(t, i, totals, fault);
  leave_tally(t.tallies, fault, totals);
}

}  // namespace

Launch preference_loss(const Context& context, const kernels::PreferenceLossArgs& a, void* workspace,
                       TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.pairs, kTallyThreads);
  const Launch l = FG_LAUNCH(preference_pairs, shape, context.stream, (Task{a, static_cast<Tally*>(workspace)}));
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t preference_loss_workspace() { return kTallyBytes; }

}  // namespace fg::cuda
