#pragma once
// How the ops of value_ops.h count: each block leaves a tally, and after the op's own launches one block adds the
// tallies up in their order and writes the outcome.
#include "kernels/cuda/team.h"
#include "kernels/cuda/value_ops.h"
#include "math/moments.h"

namespace fg::cuda {

inline constexpr int kTallyThreads = 256;
inline constexpr int64_t kMaxTallies = 1024;  // blocks of a launch that leaves them

struct Tally {
  kernels::Totals totals;
  Moments moments;
  FaultKey fault;
};
inline constexpr size_t kTallyBytes = kMaxTallies * sizeof(Tally);
static_assert(kTallyBytes % 16 == 0);

/// What follows the tallies in a workspace.
template <class T>
T* behind_tallies(void* workspace) {
  return reinterpret_cast<T*>(static_cast<char*>(workspace) + kTallyBytes);
}

/// For `items`, shared out `each` to a block.
inline Shape tally_shape(int64_t items, int64_t each) {
  Shape s;
  s.threads = kTallyThreads;
  const int64_t blocks = (items + each - 1) / each;
  s.blocks = blocks < 1 ? 1 : blocks > kMaxTallies ? kMaxTallies : blocks;
  return s;
}

/// The last launch: the sum of `count` tallies becomes the outcome.
Launch conclude(void* stream, const void* workspace, int64_t count, TotalsOutcome*);
/// The same after `before`, where that was queued.
inline Launch conclude_after(const Launch& before, const Context& context, const void* workspace, int64_t count,
                             TotalsOutcome* outcome) {
  return before.ok() ? conclude(context.stream, workspace, count, outcome) : before;
}

/// Rows [begin, end) of a sequence.
struct RowRange {
  int64_t begin, end;
};
FG_DEVICE RowRange rows_of(const Layout& l, int64_t s) {
  if (!l.offsets) return {0, l.rows};
  return {load(l.offsets + s), load(l.offsets + s + 1)};
}
FG_DEVICE bool in_mask(const Layout& l, int64_t row) { return !l.mask || load(l.mask + row) != 0; }

/// A warp's number in the grid, and how many there are.
FG_DEVICE int64_t grid_warp() { return block() * (threads() / 32) + warp(); }
FG_DEVICE int64_t grid_warps() { return blocks() * (threads() / 32); }

/// `fault` becomes that of `row`, if it is one and the first.
FG_DEVICE void note(FaultKey& fault, Stage stage, int64_t row, kernels::Fault found) {
  if (found == kernels::Fault::none) return;
  const FaultKey key = fault_key(stage, row, found);
  fault = key < fault ? key : fault;
}

FG_DEVICE Moments shuffled_xor(const Moments& m, int mask) {
  return {shuffle_xor(m.count, mask), shuffle_xor(m.mean, mask), shuffle_xor(m.squares, mask)};
}

/// Of the block, for all its threads. Contains syncs: every thread must come.
FG_DEVICE Moments block_moments(Moments m) {
  FG_SHARED(Moments, of_warp, 32);
  for (int mask = 16; mask > 0; mask >>= 1) m.add(shuffled_xor(m, mask));  // lane 0's order counts
  sync();                                                                  // an earlier call's readers are done
  if (lane() == 0) of_warp[warp()] = m;
  sync();
  Moments total = of_warp[0];
  for (int w = 1; w < threads() / 32; ++w) total.add(Moments(of_warp[w]));
  return total;
}

FG_DEVICE kernels::Totals block_totals(const kernels::Totals& t) {
  kernels::Totals sum;
  sum.loss = block_sum(t.loss), sum.margin = block_sum(t.margin);
  sum.count = int64_t(block_sum(double(t.count)));
  sum.clipped = int64_t(block_sum(double(t.clipped)));
  sum.ranked = int64_t(block_sum(double(t.ranked)));
  return sum;
}

/// The block's tally, from what its threads have. Contains syncs.
FG_DEVICE void leave_tally(Tally* tallies, FaultKey fault, const kernels::Totals& totals = {},
                           const Moments& moments = {}) {
  const Tally mine{block_totals(totals), block_moments(moments), block_least(fault)};
  if (thread() == 0) store(tallies + block(), mine);
}

}  // namespace fg::cuda
