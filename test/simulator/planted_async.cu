// Mistakes with mbarriers, bulk copies and clusters.
#include "simulator/planted.h"

namespace fg::cuda {
namespace {

using Args = sim::PlantedArgs;

FG_DEVICE void start(Shared<Barrier> b, int count = 1) {
  if (thread() == 0) {
    for (int i = 0; i < count; ++i) barrier_init(b + i, 1);
    publish_barriers();
  }
  cluster_sync();
}

enum class Bug { none, no_wait, parity, too_few, too_many, misaligned, unpublished, no_init, arrivals };

/// A row is copied and doubled.
template <Bug bug>
FG_DEVICE void one_copy(const Args& a) {
  const Shared<float> row = dynamic_shared<float>();
  FG_SHARED(Barrier, full, 1);
  if (thread() == 0 && bug != Bug::no_init) barrier_init(full, 1);
  if (thread() == 0 && bug != Bug::unpublished) publish_barriers();
  sync();
  if (thread() == 0) {
    barrier_expect(full, bug == Bug::too_few ? 512 : bug == Bug::too_many ? 1040 : 1024);
    if (bug == Bug::arrivals) barrier_arrive(full);
    bulk_load(row, a.data, 512, full);
    bulk_load(row + 128, a.data + 128 + (bug == Bug::misaligned ? 1 : 0), 512, full);
  }
  sync();
  if (bug != Bug::no_wait) barrier_wait(full, bug == Bug::parity ? 1 : 0);
  for (int i = thread(); i < 256; i += threads()) store(a.data + 256 + i, 2 * float(row[i]));
  sync();
  barrier_wait(full, 0);
}
template <Bug bug>
FG_KERNEL(64, 1)
copy_kernel(const Args a) {
  one_copy<bug>(a);
}
template <Bug bug>
void run_copy(bool planted) {
  const auto out =
      sim::run_planted("copy_kernel", planted ? copy_kernel<bug> : copy_kernel<Bug::none>, {1, 64, 1, 1024}, 516);
  if (!planted) sim::expect_equal(out[256 + 255], 510);
}
const sim::Planted a1("missing wait", run_copy<Bug::no_wait>);
const sim::Planted a2("wrong parity", run_copy<Bug::parity>);
const sim::Planted a3("too few bytes announced", run_copy<Bug::too_few>);
const sim::Planted a4("too many bytes announced", run_copy<Bug::too_many>);
const sim::Planted a5("misaligned bulk copy", run_copy<Bug::misaligned>);
const sim::Planted a6("barrier not published", run_copy<Bug::unpublished>);
const sim::Planted a7("barrier not initialised", run_copy<Bug::no_init>);
const sim::Planted a8("too many arrivals", run_copy<Bug::arrivals>);

/// A tile is copied, changed in place, and overwritten by the next copy.
template <bool bug>
FG_KERNEL(64, 1)
overwritten(const Args a) {
  FG_SHARED(float, tile, 64);
  FG_SHARED(Barrier, full, 1);
  start(full);
  for (uint32_t round = 0; round < 4; ++round) {
    if (thread() == 0) {
      barrier_expect(full, 256);
      bulk_load(tile, a.data + 64 * round, 256, full);
    }
    barrier_wait(full, round & 1);
    tile[thread()] = tile[thread()] + 1.0f;
    if (!bug) proxy_fence();
    sync();
    store(a.data + 64 * round + thread(), float(tile[63 - thread()]));
    sync();
  }
}
FG_PLANTED(a9, "missing proxy fence", overwritten, ({1, 64, 1, 0}), 256, sim::expect_equal(out[64], 128));

/// The next copy may only be issued when all have read the last one.
template <bool bug>
FG_KERNEL(64, 1)
read_late(const Args a) {
  FG_SHARED(float, tile, 64);
  FG_SHARED(Barrier, full, 1);
  start(full);
  float sum = 0;
  for (uint32_t round = 0; round < 4; ++round) {
    if (thread() == 0) {
      barrier_expect(full, 256);
      bulk_load(tile, a.data + 64 * round, 256, full);
    }
    barrier_wait(full, round & 1);
    sum += tile[63 - thread()];
    if (!bug) sync();
  }
  store(a.data + 256 + thread(), sum);
}
FG_PLANTED(a10, "copy over unread bytes", read_late, ({1, 64, 1, 0}), 320,
           sim::expect_equal(out[256], 63 * 4 + 64 * 6));

/// In place: the gradient is stored over a row whose copy is still on the way.
template <bool bug>
FG_KERNEL(64, 1)
source_overwritten(const Args a) {
  FG_SHARED(float, tile, 64);
  FG_SHARED(Barrier, full, 1);
  start(full);
  if (thread() == 0) {
    barrier_expect(full, 256);
    bulk_load(tile, a.data, 256, full);
  }
  if (bug) store(a.data + thread(), 0.0f);
  barrier_wait(full, 0);
  if (!bug) store(a.data + thread(), float(tile[thread()]) + 1);
}
FG_PLANTED(a11, "source overwritten", source_overwritten, ({1, 64, 1, 0}), 64, sim::expect_equal(out[9], 10));

/// Every block tells every other its number.
FG_DEVICE void tell(Shared<Vec16> slots, Shared<Barrier> full) {
  if (thread() == 0) barrier_expect(full, uint32_t(16 * cluster_size()));
  if (thread() < cluster_size())
    send(Vec16{uint32_t(cluster_rank() + 1), 0, 0, 0}, slots + cluster_rank(), thread(), full);
}
FG_DEVICE float told(Shared<Vec16> slots) {
  float sum = 0;
  for (int i = 0; i < cluster_size(); ++i) {
    const Vec16 v = slots[i];
    sum += float(v.x);
  }
  return sum;
}

/// The bug: rank 0 leaves without having waited for what the others send to it.
template <bool bug>
FG_KERNEL(32, 1)
peer_exit(const Args a) {
  FG_SHARED(Vec16, slots, 8);
  FG_SHARED(Barrier, full, 1);
  start(full);
  tell(slots, full);
  if (bug && cluster_rank() == 0) return;
  barrier_wait(full, 0);
  store(a.data + block() * 32 + thread(), told(slots));
}
FG_PLANTED(a12, "peer exit", peer_exit, ({8, 32, 4, 0}), 256, sim::expect_equal(out[255], 10));

template <bool bug>
FG_KERNEL(32, 1)
remote_read(const Args a) {
  FG_SHARED(float, value, 1);
  if (thread() == 0) value[0] = float(cluster_rank());
  cluster_sync();
  store(a.data + block() * 32 + thread(), cluster_load(value, (cluster_rank() + 1) % cluster_size()));
  if (!bug) cluster_sync();
}
FG_PLANTED(a13, "peer exit after a remote read", remote_read, ({4, 32, 4, 0}), 128, sim::expect_equal(out[0], 1));

/// The bug: sends before all blocks have their barriers.
template <bool bug>
FG_KERNEL(32, 1)
no_cluster_sync(const Args a) {
  FG_SHARED(Vec16, slots, 8);
  FG_SHARED(Barrier, full, 1);
  if (thread() == 0) {
    barrier_init(full, 1);
    publish_barriers();
  }
  if (bug)
    sync();
  else
    cluster_sync();
  tell(slots, full);
  barrier_wait(full, 0);
  store(a.data + block() * 32 + thread(), told(slots));
  cluster_sync();
}
FG_PLANTED(a14, "peer's barrier not published", no_cluster_sync, ({4, 32, 4, 0}), 128, sim::expect_equal(out[0], 10));

/// Two exchanges through one set of slots. The bug: nobody waits until the slots have been read.
template <bool bug>
FG_KERNEL(32, 1)
slots_reused(const Args a) {
  FG_SHARED(Vec16, slots, 16);
  FG_SHARED(Barrier, full, 2);
  start(full, 2);
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    const int part = bug ? 0 : round;
    tell(slots + 8 * part, full + round);
    barrier_wait(full + round, 0);
    sum += told(slots + 8 * part);
  }
  store(a.data + block() * 32 + thread(), sum);
}
FG_PLANTED(a15, "slots reused", slots_reused, ({4, 32, 4, 0}), 128, sim::expect_equal(out[0], 20));

/// Rounds of an exchange with alternating slots. The bug: one barrier for all rounds. A block that is ahead sends for
/// the next round while a neighbour's barrier still counts bytes of this one, whose phase then completes too early.
template <bool bug>
FG_KERNEL(32, 1)
rounds(const Args a) {
  FG_SHARED(Vec16, slots, 16);
  FG_SHARED(Barrier, full, 2);
  start(full, 2);
  float sum = 0;
  for (int round = 0; round < 16; ++round) {
    const int part = round & 1, barrier = bug ? 0 : part;
    tell(slots + 8 * part, full + barrier);
    barrier_wait(full + barrier, uint32_t(bug ? round : round / 2) & 1);
    sum += told(slots + 8 * part);
    sync();
  }
  store(a.data + block() * 32 + thread(), sum);
}
FG_PLANTED(a17, "one barrier for all rounds", rounds, ({4, 32, 4, 0}), 128, sim::expect_equal(out[0], 160));

/// A producer warp and consumers with full and empty barriers. The bug: consumers do not give the buffer back.
template <bool bug>
FG_KERNEL(96, 1)
pipeline(const Args a) {
  FG_SHARED(float, tile, 2 * 64);
  FG_SHARED(Barrier, full, 2);
  FG_SHARED(Barrier, empty, 2);
  if (thread() == 0) {
    for (int i = 0; i < 2; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, 2);
    }
    publish_barriers();
  }
  sync();
  if (warp() == 2) {
    for (uint32_t k = 0; k < 8 && lane() == 0; ++k) {
      barrier_wait(empty + k % 2, (k / 2 + 1) & 1);
      barrier_expect(full + k % 2, 256);
      bulk_load(dynamic_shared<float>() + 64 * (k % 2), a.data + 64 * k, 256, full + k % 2);
    }
    return;
  }
  float sum = 0;
  for (uint32_t k = 0; k < 8; ++k) {
    barrier_wait(full + k % 2, (k / 2) & 1);
    sum += (dynamic_shared<float>() + 64 * (k % 2))[thread()];
    sync_warp();
    if (lane() == 0 && !(bug && k == 3)) barrier_arrive(empty + k % 2);
  }
  store(a.data + 512 + thread(), sum);
}
FG_PLANTED(a16, "buffer not given back", pipeline, ({1, 96, 1, 512}), 576, sim::expect_equal(out[512], 64 * 28));

}  // namespace
}  // namespace fg::cuda
