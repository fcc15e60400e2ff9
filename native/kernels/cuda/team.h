#pragma once
// Warps and blocks working together, always in the same order: results do not change from run to run.
#include "kernels/cuda/platform.h"
#include "kernels/cuda/workspace.h"

namespace fg::cuda {

/// A warp as math/advantage.h wants its team.
struct WarpTeam {
  FG_DEVICE int64_t index() const { return lane(); }
  FG_DEVICE int64_t size() const { return 32; }
  FG_DEVICE double sum(double v) const {
    for (int m = 16; m > 0; m >>= 1) v += shuffle_xor(v, m);
    return v;
  }
  FG_DEVICE int64_t least(int64_t v) const {
    for (int m = 16; m > 0; m >>= 1) {
      const int64_t o = shuffle_xor(v, m);
      v = o < v ? o : v;
    }
    return v;
  }
  FG_DEVICE bool all(bool v) const { return ballot(!v) == 0; }
};

FG_DEVICE FaultKey warp_least(FaultKey v) {
  for (int m = 16; m > 0; m >>= 1) {
    const FaultKey o = shuffle_xor(v, m);
    v = o < v ? o : v;
  }
  return v;
}

/// The smallest key of the block, for all its threads. Contains syncs: every thread must come.
FG_DEVICE FaultKey block_least(FaultKey v) {
  FG_SHARED(FaultKey, least_of_warp, 32);
  v = warp_least(v);
  sync();  // an earlier call's readers are done
  if (lane() == 0) least_of_warp[warp()] = v;
  sync();
  const int warps = threads() / 32;
  return warp_least(lane() < warps ? FaultKey(least_of_warp[lane()]) : kNoFault);
}

/// The block's sum, for all its threads, always in the same order. Contains syncs: every thread must come.
FG_DEVICE double block_sum(double v) {
  FG_SHARED(double, sum_of_warp, 32);
  v = WarpTeam{}.sum(v);
  sync();  // an earlier call's readers are done
  if (lane() == 0) sum_of_warp[warp()] = v;
  sync();
  return WarpTeam{}.sum(lane() < threads() / 32 ? double(sum_of_warp[lane()]) : 0.0);
}

/// What earlier launches of the op found wrong; nothing may be written then.
FG_DEVICE FaultKey earlier_fault(const Workspace& w, int64_t segments) {
  FaultKey key = thread() == 0 ? load(w.carried) : kNoFault;
  for (int64_t i = thread(); i < segments; i += threads()) {
    const FaultKey k = load(w.faults + i);
    key = k < key ? k : key;
  }
  return block_least(key);
}

FG_DEVICE void add(Partial& a, const Partial& b) {
  a.loss += b.loss, a.kl += b.kl, a.entropy += b.entropy, a.ratio += b.ratio;
  a.ratio_min = b.ratio_min < a.ratio_min ? b.ratio_min : a.ratio_min;
  a.ratio_max = b.ratio_max > a.ratio_max ? b.ratio_max : a.ratio_max;
  a.tokens += b.tokens, a.clipped_low += b.clipped_low, a.clipped_high += b.clipped_high;
  a.fault = b.fault < a.fault ? b.fault : a.fault;
}

FG_DEVICE Partial warp_total(Partial p) {
  for (int m = 16; m > 0; m >>= 1) {
    const Partial o{shuffle_xor(p.loss, m),   shuffle_xor(p.kl, m),          shuffle_xor(p.entropy, m),
                    shuffle_xor(p.ratio, m),  shuffle_xor(p.ratio_min, m),   shuffle_xor(p.ratio_max, m),
                    shuffle_xor(p.tokens, m), shuffle_xor(p.clipped_low, m), shuffle_xor(p.clipped_high, m),
                    shuffle_xor(p.fault, m)};
    add(p, o);
  }
  return p;
}

/// Of the block, for warp 0. Contains a sync.
FG_DEVICE Partial block_total(Partial p) {
  FG_SHARED(Partial, of_warp, 32);
  p = warp_total(p);
  if (lane() == 0) of_warp[warp()] = p;
  sync();
  Partial total = empty_partial();
  if (lane() < threads() / 32) total = of_warp[lane()];
  return warp_total(total);
}

FG_DEVICE void write_outcome(Outcome* outcome, const Partial& p, int64_t sequences) {
  Outcome o{};
  o.status = fault_of(p.fault);
  o.metrics.loss = p.loss, o.metrics.kl = p.kl, o.metrics.entropy = p.entropy, o.metrics.ratio = p.ratio;
  o.metrics.ratio_min = p.ratio_min, o.metrics.ratio_max = p.ratio_max;
  o.metrics.tokens = p.tokens, o.metrics.sequences = sequences;
  o.metrics.clipped_low = p.clipped_low, o.metrics.clipped_high = p.clipped_high;
  store(outcome, o);
}

/// Ends a launch of `count` contributors: each stores its partial, the last to come adds all of them up and writes the
/// outcome. Called by all threads of one block per contributor; `mine` is thread 0's.
FG_DEVICE void finish(const Workspace& w, int64_t index, int64_t count, Shared<Partial> mine, FaultKey before,
                      Outcome* outcome, int64_t sequences) {
  if (!outcome) return;  // the last launch of several: its results were counted before
  FG_SHARED(uint32_t, arrived, 1);
  if (thread() == 0) {
    store(w.partials + index, Partial(mine[0]));
    arrived[0] = atomic_increment(w.ticket);
  }
  sync();
  if (int64_t(uint32_t(arrived[0])) != count - 1 || warp() != 0) return;
  Partial total = empty_partial();
  for (int64_t i = lane(); i < count; i += 32) add(total, load(w.partials + i));
  total.fault = before < total.fault ? before : total.fault;
  total = warp_total(total);
  if (lane() != 0) return;
  write_outcome(outcome, total, sequences);
  store(w.carried, total.fault);
  store(w.ticket, 0u);  // for the launch after this one
}

}  // namespace fg::cuda
