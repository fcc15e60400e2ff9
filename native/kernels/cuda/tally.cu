// The end of every op of value_ops.h.
#include "kernels/cuda/tally.h"

namespace fg::cuda {
namespace {

struct Task {
  const Tally* tallies;
  int64_t count;
  TotalsOutcome* outcome;
};

FG_KERNEL(kTallyThreads, 1) conclude_tallies(const Task t) {
  kernels::Totals totals;
  FaultKey fault = kNoFault;
  for (int64_t i = thread(); i < t.count; i += threads()) {
    const Tally one = load(t.tallies + i);
    totals.loss += one.totals.loss, totals.margin += one.totals.margin;
    totals.count += one.totals.count, totals.clipped += one.totals.clipped, totals.ranked += one.totals.ranked;
    fault = one.fault < fault ? one.fault : fault;
  }
  const TotalsOutcome out{fault_of(block_least(fault)), block_totals(totals)};
  if (thread() == 0) store(t.outcome, out);
}

}  // namespace

Launch conclude(void* stream, const void* workspace, int64_t count, TotalsOutcome* outcome) {
  const Task t{static_cast<const Tally*>(workspace), count, outcome};
  return FG_LAUNCH(conclude_tallies, (Shape{1, kTallyThreads}), stream, t);
}

}  // namespace fg::cuda
