// mbarriers, bulk copies and sends. Copies land late, in random order: what a kernel may rely on is the barrier alone.
#include <cstring>
#include <utility>

#include "simulator/machine.h"

namespace fg::sim {

namespace {

constexpr int64_t kMaxBytes = (1 << 20) - 1;  // of an mbarrier's count of bytes

/// The barrier as `t` may use it. `by_copy`: a copy will, or a thread of another block: it must have been published.
Mbarrier& usable(Block& b, SharedAt at, const char* what, bool by_copy) {
  const Thread& t = *machine().current;
  const auto found = b.barriers.find(at.offset);
  if (found == b.barriers.end())
    fail(&b == t.block ? "uninitialised barrier" : "barrier not published",
         std::string(what) + " on a barrier without barrier_init");
  Mbarrier& m = *found->second;
  const bool own = who_of(m.initialised) == uint32_t(t.index);
  if (own && (!by_copy || m.published)) return m;
  if (!m.published)
    fail("barrier not published", std::string(what) + " without publish_barriers() after barrier_init()");
  if (!covers(t, m.published))
    fail("barrier not published", std::string(what) + " without sync() or cluster_sync() after publish_barriers()");
  return m;
}

void complete_if_done(Mbarrier* b) {
  if (b->pending != 0 || b->bytes != 0) return;
  b->gathering[b->who] = b->phase + 1;
  b->complete = std::make_shared<const Clocks>(b->gathering);
  b->acquired.clear();
  ++b->phase;
  if (b->phase >= kMaxClock) fail("simulator limit", "too many phases");
  b->pending = b->arrivals;
  for (Thread* t : std::exchange(b->waiters, {})) ready(t);
}

void check_bytes(const Mbarrier& b) {
  if (b.bytes > kMaxBytes || b.bytes < -kMaxBytes)
    fail("wrong byte count", "a barrier's count of bytes overflows: " + std::to_string(b.bytes));
}

void acquire(Thread* t, Mbarrier* b) {
  if (!b->complete) return;  // a wait for the phase before the first: it tells nothing
  t->acquired = united(t->acquired, b->counters);
  for (const auto& [before, after] : b->acquired) {
    if (before == t->base) return void(t->base = after);
  }
  auto all = std::make_shared<Clocks>(*t->base);
  join(all.get(), *b->complete);
  if (b->acquired.size() < 64) b->acquired.emplace_back(t->base, all);
  t->base = all;
}

/// Whether the writer of the bytes has executed proxy_fence() since, in a way that the issuer knows of.
bool fenced(const Thread& issuer, Slot written) {
  const Machine& m = machine();
  const uint32_t who = who_of(written.epoch);
  if (who >= m.thread_count) return true;  // written by a copy
  const auto& fences = m.threads[who].fences;
  const auto after = std::lower_bound(fences.begin(), fences.end(), clock_of(written.epoch));
  return after != fences.end() && covers(issuer, epoch_of(who, *after));
}

void check_destination(Block& b, SharedAt to, size_t bytes, bool bulk) {
  const Thread& t = *machine().current;
  Access a = access_of(t);
  a.first = a.cluster;
  for (size_t i = 0; i < bytes; ++i)
    if (b.state[to.offset + i] & kInFlight) fail("race", "two outstanding copies to the same shared memory");
  const Conflict c = b.shadow->check_write(to.offset, bytes, a);
  if (c.found && who_of(c.with.epoch) >= machine().thread_count)
    fail("missing wait", "a copy overwrites what another copy brought, without waiting for that");
  if (c.found) race("shared", "a copy's write", c);
  if (!bulk) return;
  b.shadow->writes(to.offset, bytes, [&](Slot s) {
    if (s.cluster == a.cluster && !fenced(t, s))
      fail("missing proxy fence", "a bulk copy overwrites what " + describe(s) + " wrote without proxy_fence()");
  });
}

void issue(Copy c) {
  Machine& m = machine();
  std::memset(c.block->state.data() + c.to, kInFlight, c.bytes);
  c.phase = c.barrier->phase;
  c.issuer = m.current->at;
  m.copies.push_back(c);
  tick(m.current);
  maybe_yield();
}

void land(const Copy& c) {
  Machine& m = machine();
  if (c.block->gone()) fail("peer exit", "a copy lands in the shared memory of a block that has exited");
  const char* from = c.from ? global_source(c.from, c.bytes, "bulk copy") : c.value;
  std::memcpy(c.block->bytes.data() + c.to, from, c.bytes);
  std::memset(c.block->state.data() + c.to, kInitialised, c.bytes);
  c.block->shadow->landed(c.to, c.bytes, {m.launch->cluster, epoch_of(c.barrier->who, c.barrier->phase + 1)});
  if (c.barrier->phase != c.phase)
    fail("wrong byte count", "a phase completed before a copy of " + describe(c.issuer) +
                                 " had landed: fewer bytes were announced than are on the way");
  if (c.sender) join(&c.barrier->gathering, *c.sender);
  c.barrier->bytes -= c.bytes;
  check_bytes(*c.barrier);
  complete_if_done(c.barrier);
}

}  // namespace

void mbarrier_init(SharedAt at, int arrivals) {
  Machine& m = machine();
  Thread* t = m.current;
  Block& b = *t->block;
  check_shared(b, at, 8, "barrier_init");
  if (device().major < 9) fail("bad argument", "these barriers need sm_90");
  if (arrivals < 1 || arrivals >= 1 << 20)
    fail("bad argument", "barrier_init for " + std::to_string(arrivals) + " arrivals");
  auto& slot = b.barriers[at.offset];
  if (slot && (!slot->waiters.empty() || (slot->pending != slot->arrivals) || slot->bytes != 0))
    fail("bad argument", "barrier_init of a barrier in use");
  auto fresh = std::make_unique<Mbarrier>();
  fresh->block = &b, fresh->offset = at.offset;
  fresh->who = m.launch->next_barrier++;
  if (fresh->who >= m.launch->clocks) fail("simulator limit", "too many barriers");
  fresh->arrivals = fresh->pending = arrivals;
  fresh->initialised = now(*t);
  fresh->gathering.resize(m.launch->clocks);
  slot = std::move(fresh);
}

void mbarrier_publish() {
  Thread* t = machine().current;
  for (auto& [offset, b] : t->block->barriers)
    if (who_of(b->initialised) == uint32_t(t->index) && !b->published) b->published = now(*t);
  tick(t);
}

void mbarrier_arrive(SharedAt at, uint32_t bytes, const char* what) {
  maybe_yield();
  Thread* t = machine().current;
  check_shared(*t->block, at, 8, what);
  Mbarrier& b = usable(*t->block, at, what, false);
  if (b.pending == 0)
    fail("too many arrivals", "an arrival more than the " + std::to_string(b.arrivals) + " of barrier_init");
  gather(&b.gathering, *t);
  b.counters = united(b.counters, t->acquired);
  --b.pending;
  b.bytes += bytes;
  check_bytes(b);
  tick(t);
  complete_if_done(&b);
}

void mbarrier_wait(SharedAt at, uint32_t parity) {
  maybe_yield();
  Thread* t = machine().current;
  check_shared(*t->block, at, 8, "wait");
  Mbarrier& b = usable(*t->block, at, "wait", false);
  if (parity > 1) fail("bad argument", "barrier_wait for parity " + std::to_string(parity));
  while ((b.phase & 1) == parity) {  // that phase is not complete
    b.waiters.push_back(t);
    t->wait_barrier = &b, t->wait_parity = parity;
    block_current(Wait::mbarrier);
  }
  acquire(t, &b);
}

void bulk_copy(SharedAt to, const void* from, uint32_t bytes, SharedAt at) {
  Thread* t = machine().current;
  Block& block = *t->block;
  if (device().major < 9) fail("bad argument", "bulk copies need sm_90");
  if (to.offset % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
    fail("misaligned bulk copy",
         "both sides and the size must be multiples of 16 bytes; size " + std::to_string(bytes));
  if (to.offset < to.begin || size_t(to.offset) + bytes > to.end)
    fail("out of bounds", "bulk copy of " + std::to_string(bytes) + " bytes beyond its shared array");
  Mbarrier& b = usable(block, at, "bulk copy", true);
  check_destination(block, to, bytes, true);
  global_copy_issued(from, bytes, b);
  issue({&block, to.offset, bytes, from, {}, &b, 0, {}, 0, nullptr});
}

void send16(const void* value, SharedAt slot, int rank, SharedAt signal) {
  Machine& m = machine();
  Thread* t = m.current;
  if (rank < 0 || rank >= int(m.blocks.size())) fail("bad argument", "send to rank " + std::to_string(rank));
  Block& target = m.blocks[size_t(rank)];
  if (target.gone()) fail("peer exit", "access to the shared memory of a block that has exited");
  check_shared(target, slot, 16, "send");
  Mbarrier& b = usable(target, signal, "send", true);
  check_destination(target, slot, 16, false);
  auto knows = std::make_shared<Clocks>(m.launch->clocks);
  gather(knows.get(), *t);
  b.counters = united(b.counters, t->acquired);
  Copy c{&target, slot.offset, 16, nullptr, {}, &b, 0, {}, 0, knows};
  std::memcpy(c.value, value, 16);
  if (&target != t->block) target.touched_by_peers.insert(epoch_of(b.who, b.phase + 1));
  issue(c);
}

void async_proxy_fence() {
  Thread* t = machine().current;
  t->fences.push_back(t->clock);
  tick(t);
}

void land_some(bool force) {
  Machine& m = machine();
  for (size_t i = 0; i < m.copies.size(); ++i) std::swap(m.copies[i], m.copies[m.random(uint32_t(m.copies.size()))]);
  for (size_t i = 0; i < m.copies.size();) {
    if (!force && ++m.copies[i].age < 40 && m.random(4) != 0) {
      ++i;
      continue;
    }
    const Copy c = m.copies[i];
    m.copies.erase(m.copies.begin() + ptrdiff_t(i));
    land(c);
    if (force) return;
  }
}

/// The last thread of a block exits: nothing may be on the way to it, and what peers did must be ordered before.
void check_exit(Block* b) {
  const Machine& m = machine();
  for (const Copy& c : m.copies) {
    if (c.block != b) continue;
    if (c.from) fail("missing wait", "a block exits while a bulk copy to it is outstanding");
    fail("peer exit", "a block exits while " + describe(c.issuer) + " has sent to it");
  }
  for (const Epoch e : b->touched_by_peers) {
    bool known = false;
    for (int i = 0; i < b->count && !known; ++i) known = covers(b->threads[i], e);
    if (!known)
      fail("peer exit", "a block exits without waiting for " + describe(Slot{m.launch->cluster, e}) +
                            ", which uses its shared memory");
  }
}

}  // namespace fg::sim
