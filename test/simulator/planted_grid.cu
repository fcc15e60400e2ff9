// Mistakes between blocks and between passes over the same row.
#include "simulator/planted.h"

namespace fg::cuda {
namespace {

using Args = sim::PlantedArgs;

template <bool bug>
FG_KERNEL(64, 1)
two_blocks(const Args a) {
  store(a.data + thread() + (bug ? 0 : block() * 64), float(block()));
}
FG_PLANTED(g1, "two blocks write the same", two_blocks, ({4, 64, 1, 0}), 256, sim::expect_equal(out[255], 3));

/// A block that reads what another has written in the same launch, without order.
template <bool bug>
FG_KERNEL(32, 1)
neighbour(const Args a) {
  const int64_t mine = block() * 32 + thread(), other = (mine + 32) % (blocks() * 32);
  store(a.data + mine, load(a.data + (bug ? other : mine)) + 1);
}
FG_PLANTED(g2, "reads another block's output", neighbour, ({4, 32, 1, 0}), 128, sim::expect_equal(out[40], 41));

/// The last block to finish adds up what all have written. The bug: no sync() before the ticket is taken, so only
/// thread 0's stores are released.
template <bool bug>
FG_KERNEL(64, 1)
last_block(const Args a) {
  FG_SHARED(uint32_t, order, 1);
  store(a.data + block() * 64 + thread(), 2.0f);
  if (!bug) sync();
  if (thread() == 0) order[0] = atomic_increment(a.ticket);
  sync();
  if (order[0] != uint32_t(blocks() - 1)) return;
  float sum = 0;
  for (int64_t i = thread(); i < blocks() * 64; i += 64) sum += load(a.data + i);
  FG_SHARED(float, sums, 64);
  sums[thread()] = sum;
  sync();
  if (thread() == 0) {
    for (int i = 1; i < 64; ++i) sum += sums[i];
    store(a.data, sum);
  }
}
FG_PLANTED(g3, "ticket without sync", last_block, ({8, 64, 1, 0}), 512, sim::expect_equal(out[0], 1024));

/// In place: row -> its prefix differences. The second pass of the tail reads an element to the left, which its
/// neighbour may have overwritten with the result already.
template <bool bug>
FG_KERNEL(64, 1)
aliasing_tail(const Args a) {
  float sum = 0;
  for (int64_t i = thread(); i < a.n; i += threads()) sum += load(a.data + i);
  for (int m = 16; m > 0; m >>= 1) sum += shuffle_xor(sum, m);
  sync();
  const int64_t vectors = a.n / 4;
  for (int64_t i = thread(); i < vectors; i += threads()) {
    const Vec16 v = load16(a.data + 4 * i);
    store16(a.data + 4 * i, v);
  }
  for (int64_t i = 4 * vectors + thread(); i < a.n; i += threads()) {
    const float left = load(a.data + (bug ? i - 1 : i));
    store(a.data + i, left * 2);
  }
}
FG_PLANTED(g4, "aliasing tail", aliasing_tail, ({1, 64, 1, 0}), 103, sim::expect_equal(out[102], 204));

template <bool bug>
FG_KERNEL(32, 1)
reads_unwritten(const Args a) {
  store(a.data + 32 + thread(), 5.0f);
  sync();
  if (thread() == 0) store(a.data, load(a.data + (bug ? 64 : 33)));
}
const sim::Planted g5("uninitialised global memory", [](bool bug) {
  const sim::Buffer b(4 * 128);
  const Args args{b.as<float>(), nullptr, 128};
  (void)(bug ? FG_LAUNCH(reads_unwritten<true>, (Shape{1, 32, 1, 0}), nullptr, args)
             : FG_LAUNCH(reads_unwritten<false>, (Shape{1, 32, 1, 0}), nullptr, args));
});

template <bool bug>
FG_KERNEL(32, 1)
after_free(const Args a) {
  if (thread() == 0) store(a.data, 1.0f);
}
const sim::Planted g6("use after free", [](bool bug) {
  float* stale;
  {
    const sim::Buffer b(64);
    stale = b.as<float>();
    if (!bug) (void)FG_LAUNCH(after_free<false>, (Shape{1, 32, 1, 0}), nullptr, (Args{stale, nullptr, 1}));
  }
  if (bug) (void)FG_LAUNCH(after_free<true>, (Shape{1, 32, 1, 0}), nullptr, (Args{stale, nullptr, 1}));
});

}  // namespace
}  // namespace fg::cuda
