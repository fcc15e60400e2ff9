// Mistakes within a block: order, warps, barriers, bounds.
#include "simulator/planted.h"

namespace fg::cuda {
namespace {

using Args = sim::PlantedArgs;

/// Sum of n = threads() values through shared memory. The bug: no sync() between writes and reads.
template <bool bug>
FG_KERNEL(256, 1)
no_sync(const Args a) {
  FG_SHARED(float, values, 256);
  values[thread()] = 0;
  sync();
  values[thread()] = load(a.data + thread());
  if (!bug) sync();
  float sum = 0;
  if (thread() == 0)
    for (int i = 0; i < threads(); ++i) sum += values[i];
  if (thread() == 0) store(a.data, sum);
}
FG_PLANTED(p1, "sync removed", no_sync, ({1, 256, 1, 0}), 256, sim::expect_equal(out[0], 255 * 128));

/// The same with the array used twice. The bug: the second round overwrites what the first is still reading.
template <bool bug>
FG_KERNEL(128, 1)
reuse(const Args a) {
  FG_SHARED(float, values, 128);
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    values[thread()] = float(thread() + round);
    sync();
    for (int i = 0; i < threads(); ++i) sum += values[i];
    if (!bug) sync();
  }
  store(a.data + thread(), sum);
}
FG_PLANTED(p2, "shared array reused", reuse, ({1, 128, 1, 0}), 128, sim::expect_equal(out[5], 127 * 128 + 128));

/// Reads that the writer's warp alone is ordered with. The bug: sync_warp() where sync() is needed.
template <bool bug>
FG_KERNEL(64, 1)
warp_only(const Args a) {
  FG_SHARED(float, values, 64);
  values[thread()] = 0;
  sync();
  values[thread()] = float(thread());
  if (bug)
    sync_warp();
  else
    sync();
  store(a.data + thread(), float(values[bug ? 63 - thread() : thread() ^ 1]));
}
FG_PLANTED(p3, "sync_warp for sync", warp_only, ({1, 64, 1, 0}), 64, sim::expect_equal(out[4], 5));

template <bool bug>
FG_KERNEL(64, 1)
divergent_shuffle(const Args a) {
  float v = load(a.data + thread());
  if (!bug || lane() != 7) v += shuffle_xor(v, 1);
  sync_warp();
  store(a.data + thread(), v);
}
FG_PLANTED(p4, "divergent lane", divergent_shuffle, ({1, 64, 1, 0}), 64, sim::expect_equal(out[6], 13));

template <bool bug>
FG_KERNEL(64, 1)
early_lane(const Args a) {
  if (bug && thread() == 40) return;
  const float v = shuffle(load(a.data + thread()), 3);
  store(a.data + thread(), v);
}
FG_PLANTED(p5, "lane exits early", early_lane, ({1, 64, 1, 0}), 64, sim::expect_equal(out[60], 35));

template <bool bug>
FG_KERNEL(128, 1)
half_sync(const Args a) {
  FG_SHARED(float, first, 1);
  if (thread() == 0) first[0] = load(a.data + 1);
  if (!bug || thread() < 64) sync();
  if (thread() < 64) store(a.data + thread(), float(first[0]));
}
FG_PLANTED(p6, "half of the block syncs", half_sync, ({1, 128, 1, 0}), 128, sim::expect_equal(out[63], 1));

template <bool bug>
FG_KERNEL(128, 1)
named(const Args a) {
  FG_SHARED(float, values, 128);
  values[thread()] = float(thread());
  if (warp() < 2) named_barrier(1, bug ? 128 : 64);
  if (warp() < 2) store(a.data + thread(), float(values[63 - thread()]));
}
FG_PLANTED(p7, "named barrier's count", named, ({1, 128, 1, 0}), 128, sim::expect_equal(out[0], 63));

template <bool bug>
FG_KERNEL(96, 1)
one_past(const Args a) {
  const int64_t i = thread() + (bug ? 1 : 0);
  store(a.data + i, 1.0f);
}
FG_PLANTED(p8, "off by one", one_past, ({1, 96, 1, 0}), 96, sim::expect_equal(out[95], 1));

template <bool bug>
FG_KERNEL(32, 1)
shared_bounds(const Args a) {
  FG_SHARED(float, left, 32);
  FG_SHARED(float, right, 32);
  left[thread()] = 1, right[thread()] = 2;
  sync();
  store(a.data + thread(), float(left[thread() + (bug ? 1 : 0)]) + right[thread()]);
}
FG_PLANTED(p9, "shared array's end", shared_bounds, ({1, 32, 1, 0}), 32, sim::expect_equal(out[31], 3));

template <bool bug>
FG_KERNEL(64, 1)
uninitialised(const Args a) {
  const Shared<float> values = dynamic_shared<float>();
  if (!bug || thread() != 9) values[thread()] = 4;
  sync();
  store(a.data + thread(), float(values[63 - thread()]));
}
FG_PLANTED(p10, "uninitialised shared memory", uninitialised, ({1, 64, 1, 256}), 64, sim::expect_equal(out[0], 4));

template <bool bug>
FG_KERNEL(32, 1)
raw(const Args a) {
  if (bug)
    a.data[thread()] = 3;
  else
    store(a.data + thread(), 3.0f);
}
FG_PLANTED(p11, "raw dereference", raw, ({1, 32, 1, 0}), 32, sim::expect_equal(out[31], 3));

template <bool bug>
FG_KERNEL(32, 1)
misaligned(const Args a) {
  const Vec16 v = load16(a.data + thread() * 4 + (bug ? 1 : 0));
  store(a.data + thread() * 4, bits_as_float(v.y));
}
FG_PLANTED(p12, "misaligned vector", misaligned, ({1, 32, 1, 0}), 144, sim::expect_equal(out[4], 5));

/// Ordinary and atomic accesses of one counter. The bug: it is read while others still add.
template <bool bug>
FG_KERNEL(128, 1)
counted(const Args a) {
  FG_SHARED(uint32_t, count, 1);
  if (thread() == 0) count[0] = 0;
  sync();
  atomic_add(count, 2u);
  if (!bug) sync();
  store(a.data + thread(), float(count[0]));
}
FG_PLANTED(p13, "counter read too early", counted, ({1, 128, 1, 0}), 128, sim::expect_equal(out[7], 256));

template <bool bug>
FG_KERNEL(32, 1)
deep(const Args a) {
  volatile char space[bug ? 128 * 1024 : 1024];
  for (size_t i = sizeof space; i > 0; i -= 64) space[i - 1] = 1;
  store(a.data + thread(), float(space[63]));
}
FG_PLANTED(p14, "deep stack", deep, ({1, 32, 1, 0}), 32, sim::expect_equal(out[7], 1));

}  // namespace
}  // namespace fg::cuda
