// Generalised advantage estimation: one warp a sequence, 32 tokens at a time from the last back, by a scan over what
// tokens do (math/gae.h).
#include "kernels/cuda/tally.h"
#include "math/gae.h"

namespace fg::cuda {
namespace {

struct Task {
  kernels::GaeArgs a;
  Tally* tallies;
  int64_t count;  // of tallies
  double* exact;  // (rows) advantages before they are whitened
};

FG_DEVICE GaeRun shuffled(const GaeRun& r, int from) {
  return {shuffle(r.constant, from), shuffle(r.by_value, from), shuffle(r.by_advantage, from), shuffle(r.own, from),
          shuffle(r.pass, from)};
}

/// The tokens of this lane and of all later ones, as one run.
FG_DEVICE GaeRun runs_from(GaeRun r) {
  for (int d = 1; d < 32; d *= 2) {
    const bool has = lane() + d < 32;
    const GaeRun later = shuffled(r, has ? lane() + d : lane());
    if (has) r = r.then(later);
  }
  return r;
}

FG_DEVICE void write_token(const Task& t, int64_t row, const GaeState& state, bool selected) {
  if (!t.a.options.whiten)
    store(t.a.advantages + row, selected ? float(state.advantage) : 0.0f);
  else if (selected)
    store(t.exact + row, state.advantage);
  store(t.a.returns + row, selected ? float(state.advantage + state.value) : 0.0f);
}

FG_DEVICE void sequence(const Task& t, int64_t s, Moments& all, FaultKey& fault) {
  const Layout& l = t.a.layout;
  const RowRange rows = rows_of(l, s);
  const float last = t.a.last_values ? load(t.a.last_values + s) : 0.0f;
  GaeState after{0, last};
  for (int64_t end = rows.end; end > rows.begin; end -= 32) {
    const int64_t row = end - 32 + lane();
    const bool selected = row >= rows.begin && in_mask(l, row);
    GaeRun run;
    if (selected) {
      const float reward = load(t.a.rewards + row), value = load(t.a.values + row);
      note(fault, Stage::tokens, row, kernels::gae_fault(reward, value));
      if (!is_finite(last)) note(fault, Stage::values, s, kernels::Fault::last_value);
      run = gae_token(t.a.options, reward, value);
    }
    const GaeState state = runs_from(run)(after);
    if (selected && t.a.options.whiten) all.add(state.advantage);
    if (row >= rows.begin) write_token(t, row, state, selected);
    after = {shuffle(state.advantage, 0), shuffle(state.value, 0)};
  }
}

FG_KERNEL(kTallyThreads, 1) gae_sequences(const Task t) {
  FaultKey fault = kNoFault;
  Moments all;
  for (int64_t s = grid_warp(); s < t.a.layout.sequences; s += grid_warps()) sequence(t, s, all, fault);
  leave_tally(t.tallies, fault, {}, all);
}

FG_KERNEL(kTallyThreads, 1) whiten_rows(const Task t) {
  Moments all;
  for (int64_t i = thread(); i < t.count; i += threads()) all.add(load(t.tallies + i).moments);
  all = block_moments(all);
  for (int64_t row = block() * threads() + thread(); row < t.a.layout.rows; row += blocks() * threads()) {
    const bool selected = in_mask(t.a.layout, row);
    store(t.a.advantages + row, selected ? float(whitened(load(t.exact + row), all)) : 0.0f);
  }
}

}  // namespace

Launch gae(const Context& context, const kernels::GaeArgs& a, void* workspace, TotalsOutcome* outcome) {
  const Shape shape = tally_shape(a.layout.sequences, kTallyThreads / 32);
  const Task t{a, static_cast<Tally*>(workspace), shape.blocks, behind_tallies<double>(workspace)};
  Launch l = FG_LAUNCH(gae_sequences, shape, context.stream, t);
  if (l.ok() && a.options.whiten)
    l = FG_LAUNCH(whiten_rows, tally_shape(a.layout.rows, kTallyThreads), context.stream, t);
  return conclude_after(l, context, workspace, shape.blocks, outcome);
}

size_t gae_workspace(int64_t rows) { return kTallyBytes + size_t(rows) * sizeof(double); }

}  // namespace fg::cuda
