// Global memory. Addresses lie in one inaccessible mapping, real storage elsewhere: whatever does not go through the
// accessors faults, so nothing escapes the checks and the counters.
#include <sys/mman.h>

#include <cstring>

#include "simulator/machine.h"

namespace fg::sim {

namespace {

constexpr size_t kSlot = size_t(1) << 16, kSlots = size_t(1) << 20;  // 64 GB of addresses

struct Allocation {
  uintptr_t address;
  size_t bytes, slots;
  std::vector<char> data;
  std::vector<uint8_t> state;
  std::unique_ptr<Shadow> shadow;
  bool read = false;  // some kRead may be set
};

struct Space {
  char* region;
  std::vector<Allocation*> table = std::vector<Allocation*>(kSlots);
  size_t next = 1;
  std::vector<Allocation*> with_reads;
  Space() {
    void* p = mmap(nullptr, kSlot * kSlots, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    region = static_cast<char*>(p);
  }
  size_t index(const void* p) const {
    return (reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(region)) / kSlot;
  }
};

Space& space() {
  static Space* const instance = new Space;
  return *instance;
}

/// The first of `n` free slots in a row. Addresses are used again as late as possible: stale pointers stay invalid.
size_t find_slots(Space& s, size_t n) {
  for (size_t tried = 0, run = 0, at = s.next; tried < 2 * kSlots; ++tried, ++at) {
    if (at + 1 >= kSlots) at = 1, run = 0;
    run = s.table[at] ? 0 : run + 1;
    if (run == n) {
      s.next = at + 1;
      return at + 1 - n;
    }
  }
  throw std::bad_alloc();
}

std::string place(const Allocation& a, const void* p) {
  return "offset " + std::to_string(int64_t(reinterpret_cast<uintptr_t>(p) - a.address)) + " of " +
         std::to_string(a.bytes) + " bytes";
}

Allocation& find(const void* p, size_t bytes, const char* what) {
  Space& s = space();
  if (!is_simulated(p)) fail("out of bounds", std::string(what) + " of an address that is not device memory");
  Allocation* a = s.table[s.index(p)];
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (!a) fail("out of bounds", std::string(what) + " of global memory far from any allocation, or freed");
  if (address < a->address || address + bytes > a->address + a->bytes)
    fail("out of bounds",
         std::string(what) + " of " + std::to_string(bytes) + " bytes of global memory at " + place(*a, p));
  return *a;
}

void check_initialised(const Allocation& a, const void* p, size_t bytes) {
  const uint8_t* state = a.state.data() + (reinterpret_cast<uintptr_t>(p) - a.address);
  uint8_t all = kInitialised;
  for (size_t i = 0; i < bytes; ++i) all &= state[i];
  if (!all) fail("uninitialised global memory", "read at " + place(a, p));
}

/// Counts bytes, and those of them that this launch has read before.
void count(Allocation& a, size_t offset, size_t bytes, bool bulk) {
  LaunchRecord& r = machine().launch->record;
  uint8_t* state = a.state.data() + offset;
  size_t again = 0;
  for (size_t i = 0; i < bytes; ++i) again += state[i] >> 1 & 1, state[i] |= kRead;
  if (!a.read) a.read = true, space().with_reads.push_back(&a);
  ++r.accesses;
  r.read_bytes += bytes, r.reread_bytes += again;
  if (bytes >= 16) r.wide_bytes += bytes;
  if (bulk) r.bulk_bytes += bytes;
}

Allocation& host_range(const void* p, size_t bytes) {
  machine().current = nullptr;
  return find(p, bytes, "a copy");
}

}  // namespace

bool is_simulated(const void* p) {
  const auto a = reinterpret_cast<uintptr_t>(p), r = reinterpret_cast<uintptr_t>(space().region);
  return a >= r && a < r + kSlot * kSlots;
}

void* allocate(size_t bytes, size_t offset) {
  install_fault_handler();
  Space& s = space();
  auto* a = new Allocation;
  a->bytes = bytes;
  a->slots = (bytes + offset + 512) / kSlot + 1;
  const size_t first = find_slots(s, a->slots + 1);  // one slot between allocations stays free
  a->address = reinterpret_cast<uintptr_t>(s.region) + first * kSlot + 256 + offset;
  a->data.assign(bytes, char(0xA5));
  a->state.assign(bytes, 0);
  a->shadow = std::make_unique<Shadow>(bytes + 16);
  for (size_t i = 0; i < a->slots; ++i) s.table[first + i] = a;
  return reinterpret_cast<void*>(a->address);
}

void release(void* p) {
  if (!p) return;
  Space& s = space();
  Allocation& a = host_range(p, 0);
  std::erase(s.with_reads, &a);
  for (size_t i = 0; i < a.slots; ++i) s.table[s.index(p) + i] = nullptr;
  delete &a;
}

void copy_in(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  Allocation& a = host_range(device, bytes);
  const size_t at = reinterpret_cast<uintptr_t>(device) - a.address;
  std::memcpy(a.data.data() + at, host, bytes);
  std::memset(a.state.data() + at, kInitialised, bytes);
}

void copy_out(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  Allocation& a = host_range(device, bytes);
  std::memcpy(host, a.data.data() + (reinterpret_cast<uintptr_t>(device) - a.address), bytes);
}

bool initialised(const void* device, size_t bytes) {
  if (bytes == 0) return true;
  Allocation& a = host_range(device, bytes);
  const uint8_t* state = a.state.data() + (reinterpret_cast<uintptr_t>(device) - a.address);
  for (size_t i = 0; i < bytes; ++i)
    if (!(state[i] & kInitialised)) return false;
  return true;
}

void start_counting() {
  for (Allocation* a : space().with_reads) {
    for (uint8_t& s : a->state) s &= uint8_t(~kRead);
    a->read = false;
  }
  space().with_reads.clear();
}

void global_read(const void* p, void* to, size_t bytes, bool counted) {
  Allocation& a = find(p, bytes, "read");
  const size_t at = reinterpret_cast<uintptr_t>(p) - a.address;
  check_initialised(a, p, bytes);
  // Cells are by absolute 4-byte words, so that aligned accesses touch whole ones.
  const Conflict c = a.shadow->read(at + (a.address & 15), bytes, access_of(*machine().current));
  if (c.found) race("global", "a read", c);
  if (counted) count(a, at, bytes, false);
  std::memcpy(to, a.data.data() + at, bytes);
}

void global_write(void* p, const void* from, size_t bytes) {
  Allocation& a = find(p, bytes, "write");
  const size_t at = reinterpret_cast<uintptr_t>(p) - a.address;
  const Conflict c = a.shadow->write(at + (a.address & 15), bytes, access_of(*machine().current));
  if (c.found) race("global", "a write", c);
  LaunchRecord& r = machine().launch->record;
  ++r.accesses;
  r.written_bytes += bytes;
  if (bytes >= 16) r.wide_bytes += bytes;
  for (size_t i = 0; i < bytes; ++i) a.state[at + i] |= kInitialised;
  std::memcpy(a.data.data() + at, from, bytes);
}

namespace {

/// Release and acquire through the counter: within the cluster by clocks, from earlier clusters by its history.
void order_by_counter(const void* p, Thread* t) {
  Launch& l = *machine().launch;
  const auto [entry, fresh] = l.counter_of.try_emplace(p, int(l.counters.size()));
  if (fresh) l.counters.emplace_back();
  const int number = entry->second;
  Counter& counter = l.counters[size_t(number)];
  if (t->acquired) {  // what the thread has acquired elsewhere goes on to who comes later
    for (const int i : *t->acquired) {
      if (i == number) continue;
      for (const auto& [cluster, clocks] : l.counters[size_t(i)].released) {
        auto& into = counter.released[cluster];
        into.resize(std::max(into.size(), clocks.size()));
        join(&into, clocks);
      }
    }
  }
  Clocks& mine = counter.released[l.cluster];
  mine.resize(l.clocks);
  auto base = std::make_shared<Clocks>(*t->base);
  join(base.get(), mine);
  gather(&mine, *t);
  t->base = base;
  t->acquired = united(t->acquired, std::make_shared<std::vector<int>>(1, number));
  tick(t);
}

}  // namespace

uint32_t global_increment(uint32_t* p) {
  maybe_yield();
  Thread* t = machine().current;
  if (reinterpret_cast<uintptr_t>(p) % 4 != 0) fail("misaligned access", "atomic_increment");
  Allocation& a = find(p, 4, "atomic_increment");
  const size_t at = reinterpret_cast<uintptr_t>(p) - a.address;
  check_initialised(a, p, 4);
  order_by_counter(p, t);
  const Conflict c = a.shadow->atomic(at + (a.address & 15), 4, access_of(*t));
  if (c.found) race("global", "an atomic operation", c);
  ++machine().launch->record.atomics;
  uint32_t old;
  std::memcpy(&old, a.data.data() + at, 4);
  const uint32_t next = old + 1;
  std::memcpy(a.data.data() + at, &next, 4);
  return old;
}

const char* global_source(const void* p, size_t bytes, const char* what) {
  Allocation& a = find(p, bytes, what);
  check_initialised(a, p, bytes);
  return a.data.data() + (reinterpret_cast<uintptr_t>(p) - a.address);
}

void global_copy_issued(const void* p, size_t bytes, const Mbarrier& b) {
  Allocation& a = find(p, bytes, "bulk copy");
  check_initialised(a, p, bytes);
  const size_t at = reinterpret_cast<uintptr_t>(p) - a.address + (a.address & 15);
  Access access = access_of(*machine().current);
  a.shadow->writes(at, bytes, [&](Slot s) {
    if (s.cluster < access.first) return;
    if (!covers(*access.thread, s)) race("global", "a bulk copy's read", {true, s, "a write"});
    fail("missing proxy fence", "a bulk copy reads global memory that this launch has written");
  });
  access.epoch = epoch_of(b.who, b.phase + 1);
  a.shadow->read_by_copy(at, bytes, access);
  count(a, at - (a.address & 15), bytes, true);
}

}  // namespace fg::sim
