// The critic's loss: one thread a token.
#include "kernels/cuda/tally.h"
#include "math/value_loss.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::ValueLossArgs a;
  Tally* tallies;
};

FG_DEVICE float token(const Task& t, int64_t row, kernels::Totals& totals, FaultKey& fault) {
  const float value = load(t.a.values + row), target = load(t.a.returns + row);
  const float old = t.a.clip < kUnbounded ? load(t.a.old_values + row) : 0.0f;
  note(fault, Stage::tokens, row, kernels::value_fault(value, old, target));
  const ValueError e = value_error(value, target, old, t.a.clip);
  totals.loss += e.loss / t.a.normalizer;
  ++totals.count, totals.clipped += e.clipped;
  return float(e.by_value / t.a.normalizer);
}

FG_KERNEL(kTallyThreads, 1) value_tokens(const Task t) {
  kernels::Totals totals;
  FaultKey fault = kNoFault;
  for (int64_t row = block() * threads() + thread(); row < t.a.layout.rows; row += blocks() * threads())
    store(t.a.grad_values + row, in_mask(t.a.layout, row) ? token(t, row, totals, fault) : 0.0f);
  leave_tally(t.tallies, fault, totals);
}

}  // namespace

Launch value_loss(const Context& context, const kernels::ValueLossArgs& a, void* workspace, TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.layout.rows, kTallyThreads);
  const Launch l = FG_LAUNCH(value_tokens, shape, context.stream, (Task{a, static_cast<Tally*>(workspace)}));
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t value_loss_workspace() { return kTallyBytes; }

}  // namespace fg::cuda
