// Shared memory: every access is checked for bounds, alignment, initialisation, outstanding copies and order.
#include <cstring>

#include "simulator/machine.h"

namespace fg::sim {

namespace {

SharedAt checked(SharedAt at, size_t bytes, const char* what) {
  check_shared(*machine().current->block, at, bytes, what);
  return at;
}

/// Shared memory is one cluster's: older cells are of other blocks.
Access shared_access() {
  Access a = access_of(*machine().current);
  a.first = a.cluster;
  return a;
}

void check_state(const Block& b, SharedAt at, size_t bytes, bool reading) {
  uint8_t any = 0, all = kInitialised;
  for (size_t i = 0; i < bytes; ++i) any |= b.state[at.offset + i], all &= b.state[at.offset + i];
  if (any & kInFlight)
    fail("missing wait", std::string(reading ? "read of" : "write to") +
                             " a bulk copy's destination without waiting: the copy is outstanding");
  if (reading && !all) fail("uninitialised shared memory", "read at byte " + std::to_string(at.offset));
}

void conflict(const Conflict& c, const char* what) {
  if (!c.found) return;
  if (who_of(c.with.epoch) >= machine().thread_count && who_of(c.with.epoch) != kSetWho)
    fail("missing wait", std::string(what) + " of a bulk copy's destination without waiting: it has only just landed");
  race("shared", what, c);
}

void read_from(Block& b, SharedAt at, void* to, size_t bytes) {
  check_state(b, at, bytes, true);
  conflict(b.shadow->read(at.offset, bytes, shared_access()), "a read");
  std::memcpy(to, b.bytes.data() + at.offset, bytes);
}

}  // namespace

void check_shared(const Block& b, SharedAt at, size_t bytes, const char* what) {
  if (at.offset < at.begin || size_t(at.offset) + bytes > at.end || at.end > b.bytes.size())
    fail("out of bounds", std::string(what) + " of " + std::to_string(bytes) + " bytes of shared memory at byte " +
                              std::to_string(int64_t(int32_t(at.offset - at.begin))) + " of an array of " +
                              std::to_string(at.end - at.begin));
  const size_t align = std::min<size_t>(bytes & (~bytes + 1), 16);
  if (at.offset % align != 0) fail("misaligned access", std::string(what) + " of shared memory");
}

void shared_read(SharedAt at, void* to, size_t bytes) {
  read_from(*machine().current->block, checked(at, bytes, "read"), to, bytes);
}

void shared_write(SharedAt at, const void* from, size_t bytes) {
  checked(at, bytes, "write");
  Block& b = *machine().current->block;
  check_state(b, at, bytes, false);
  conflict(b.shadow->write(at.offset, bytes, shared_access()), "a write");
  std::memset(b.state.data() + at.offset, kInitialised, bytes);
  std::memcpy(b.bytes.data() + at.offset, from, bytes);
}

uint64_t shared_atomic_add(SharedAt at, uint64_t v, size_t bytes) {
  maybe_yield();
  checked(at, bytes, "atomic_add");
  Block& b = *machine().current->block;
  check_state(b, at, bytes, true);
  conflict(b.shadow->atomic(at.offset, bytes, shared_access()), "an atomic operation");
  uint64_t old = 0;
  std::memcpy(&old, b.bytes.data() + at.offset, bytes);
  const uint64_t sum = old + v;
  std::memcpy(b.bytes.data() + at.offset, &sum, bytes);
  return old;
}

void shared_read_remote(SharedAt at, int rank, void* to, size_t bytes) {
  Machine& m = machine();
  if (rank < 0 || rank >= int(m.blocks.size())) fail("bad argument", "cluster_load from rank " + std::to_string(rank));
  Block& b = m.blocks[size_t(rank)];
  if (b.gone()) fail("peer exit", "access to the shared memory of a block that has exited");
  checked(at, bytes, "cluster_load");
  read_from(b, at, to, bytes);
  if (&b != m.current->block) b.touched_by_peers.insert(now(*m.current));
}

SharedAt static_shared_at(const void* tag, size_t bytes, size_t align) {
  Launch& l = *machine().launch;
  for (const auto& [known, at] : l.statics)
    if (known == tag) return at;
  Block& b = *machine().current->block;
  const size_t used = l.statics.empty() ? l.shape.shared : l.statics.back().second.end;
  const size_t start =
      (used + std::max<size_t>(align, 16) - 1) / std::max<size_t>(align, 16) * std::max<size_t>(align, 16);
  l.record.static_shared += bytes;
  if (l.record.static_shared > 48 * 1024) fail("too much shared memory", "static arrays of more than 48 KB");
  if (start + bytes > b.bytes.size() || start + bytes > device().shared_per_block)
    fail("too much shared memory", std::to_string(start + bytes) + " bytes of static and dynamic arrays");
  const SharedAt at{uint32_t(start), uint32_t(start), uint32_t(start + bytes)};
  l.statics.emplace_back(tag, at);
  return at;
}

SharedAt dynamic_shared_at(size_t offset, size_t align) {
  const Launch& l = *machine().launch;
  if (offset % align != 0) fail("misaligned access", "dynamic_shared at byte " + std::to_string(offset));
  if (offset > l.shape.shared) fail("out of bounds", "dynamic_shared beyond the launch's dynamic bytes");
  return {uint32_t(offset), 0, uint32_t(l.shape.shared)};
}

void reset_block(Block* b, size_t shared) {
  const size_t bytes = shared + 48 * 1024 + 256;
  if (b->bytes.size() != bytes) {
    b->bytes.assign(bytes, char(0xA5));
    b->shadow = std::make_unique<Shadow>(bytes);
  }
  b->state.assign(bytes, 0);
  b->exited = 0;
  b->at_sync.clear();
  b->at_named.clear();
  b->barriers.clear();
  b->touched_by_peers.clear();
}

}  // namespace fg::sim
