#pragma once
// Finding where a running sum over a row passes a target, without sorting and without memory of the row's size: by
// descending logit through histograms of the order's leading bits, by ascending id through sums over ever shorter
// spans. All functions are for the whole block, and every thread gets the result. Amounts are integers: the results do
// not depend on the order in which threads add.
#include "kernels/cuda/platform.h"
#include "kernels/cuda/sampling_row.h"

namespace fg::cuda {

constexpr int kDigit = 11, kBins = 1 << kDigit;

struct Place {
  uint32_t bin;
  uint64_t before, at, total;  // sums over earlier bins, over this one, over all
};

/// The block's shared memory. A function may overwrite any of it after its first sync().
struct Board {
  Shared<uint32_t> low, high;  // (kBins) the halves of a bin: a 64-bit atomic on shared memory is a loop
  Shared<uint64_t> sums;       // (32) one per warp
  Shared<Place> place;         // (1)
};

template <class T>
FG_DEVICE T warp_sum(T v) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

/// Sum over this lane and those before it.
FG_DEVICE uint64_t warp_scan(uint64_t v) {
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t other = shuffle(v, (lane() - step) & 31);
    if (lane() >= step) v += other;
  }
  return v;
}

FG_DEVICE int first_lane(uint32_t ballot) {
  int n = 0;
  for (int half = 16; half > 0; half /= 2)
    if (!(ballot & ((1u << half) - 1))) n += half, ballot >>= half;
  return n;
}

/// Publishes one value per warp (the same in all its lanes) and gives lane l the value of warp l, or 0.
FG_DEVICE uint64_t gather(const Board& b, uint64_t of_warp) {
  sync();
  if (lane() == 0) b.sums[warp()] = of_warp;
  sync();
  return lane() < threads() / 32 ? uint64_t(b.sums[lane()]) : 0;
}
FG_DEVICE uint64_t block_sum(const Board& b, uint64_t of_warp) { return warp_sum(gather(b, of_warp)); }

FG_DEVICE float warp_max(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
  return v;
}
FG_DEVICE float block_max(const Board& b, float v) {
  v = bits_as_float(gather(b, float_as_bits(warp_max(v))));
  return warp_max(lane() < threads() / 32 ? v : from_order(kLowest));
}

// ---- by descending logit

FG_DEVICE void add(const Board& b, uint32_t bin, uint64_t amount) {
  const uint32_t low = uint32_t(amount), old = low ? atomic_add(b.low + bin, low) : 0;
  const uint32_t high = uint32_t(amount >> 32) + (old + low < old ? 1u : 0u);
  if (high) atomic_add(b.high + bin, high);
}
FG_DEVICE uint64_t amount_of(const Board& b, int bin) { return uint64_t(b.high[bin]) << 32 | b.low[bin]; }

/// The bin where the running sum passes target(total), a function that every thread evaluates alike.
template <class Target>
FG_DEVICE Place find_bin(const Board& b, int bins, Target target) {
  const int per = (bins + threads() - 1) / threads(), first = thread() * per;
  const int last = first + per < bins ? first + per : bins;
  uint64_t own = 0;
  for (int i = first; i < last; ++i) own += amount_of(b, i);
  const uint64_t inclusive = warp_scan(own);
  const uint64_t of_warp = gather(b, shuffle(inclusive, 31));
  const uint64_t until = warp_scan(of_warp), total = shuffle(until, 31);
  uint64_t before = shuffle(until - of_warp, warp()) + inclusive - own;
  const uint64_t wanted = target(total);
  if (before <= wanted && wanted - before < own) {
    int bin = first;
    for (uint64_t at = amount_of(b, bin); wanted - before >= at; at = amount_of(b, bin)) before += at, ++bin;
    b.place[0] = Place{uint32_t(bin), before, amount_of(b, bin), total};
  }
  sync();
  return b.place[0];
}

struct Cut {
  uint32_t order;
  uint64_t before, at;  // amounts of all smaller orders, and of this one
  uint64_t offset;      // target - before
};

/// The order at which the running sum of amount(order, logit) passes target(sum over all), which must be less than that
/// sum. walk(f) calls f(logit) for every element that may take part, once per digit of the leading `bits` of the order;
/// those with amount 0 do not.
template <class Walk, class Amount, class Target>
FG_DEVICE Cut descend(const Board& b, int bits, Walk walk, Amount amount, Target target) {
  Cut cut = {0, 0, 0, 0};
  uint32_t mask = 0;
  for (int done = 0; done < bits;) {
    const int digit = bits - done < kDigit ? bits - done : kDigit, shift = 32 - done - digit;
    const uint32_t last = (1u << digit) - 1;
    sync();
    for (int i = thread(); i <= int(last); i += threads()) b.low[i] = 0, b.high[i] = 0;
    sync();
    walk([&](float z) {
      const uint32_t order = order_of(z);
      if ((order & mask) != cut.order) return;
      const uint64_t m = amount(order, z);
      if (m) add(b, (order >> shift) & last, m);
    });
    sync();
    const Place p = find_bin(b, int(last) + 1, [&](uint64_t total) { return done ? cut.offset : target(total); });
    if (done == 0) cut.offset = target(p.total);
    cut.before += p.before, cut.offset -= p.before, cut.at = p.at;
    cut.order |= p.bin << shift;
    mask |= last << shift;
    done += digit;
  }
  if (bits < 32 && !(cut.order >> 31)) cut.order |= (1u << (32 - bits)) - 1;  // the image of trailing zeros
  return cut;
}

// ---- by ascending id

FG_DEVICE Span part(Span s, int index) {
  const int parts = threads() / 32;
  const int length = int((int64_t(s.end - s.begin) + parts - 1) / parts + 31) & ~31;
  const int64_t begin = s.begin + int64_t(index) * length, end = begin + length;
  return {int(begin < s.end ? begin : s.end), int(end < s.end ? end : s.end)};
}

/// Which warp's part of `s` holds the place where the running sum passes `target`; takes the earlier parts off it.
FG_DEVICE Span narrow(const Board& b, Span s, uint64_t of_warp, uint64_t& target) {
  const uint64_t sum = gather(b, of_warp), until = warp_scan(sum);
  const int index = first_lane(ballot(until > target) | 1u << 31);
  target -= shuffle(until - sum, index);
  return part(s, index);
}

/// The id of `s` where the running sum of amount(id, logit) passes `target`, which is less than the sum. At least two
/// warps: with one, spans would not get shorter.
template <DType D, class Amount>
FG_DEVICE int pick_id(const Board& b, const void* row, Span s, uint64_t target, Amount amount) {
  while (s.end - s.begin > 32) {
    uint64_t sum = 0;
    walk<D>(row, part(s, warp()), lane(), 32, Cache::normal, [&](int id, float z) { sum += amount(id, z); });
    s = narrow(b, s, warp_sum(sum), target);
  }
  const int id = s.begin + lane();
  const uint64_t until = warp_scan(id < s.end ? amount(id, element<D>(row, id)) : 0);
  return s.begin + first_lane(ballot(until > target) | 1u << 31);
}

}  // namespace fg::cuda
