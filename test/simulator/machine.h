#pragma once
// The simulated machine: what the parts of the simulator share. Not for kernels and tests.
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "simulator/fiber.h"
#include "simulator/hooks.h"
#include "simulator/shadow.h"

namespace fg::sim {

struct Block;
struct Warp;
struct Mbarrier;

enum class Wait : uint8_t { none, warp, block, named, cluster, mbarrier, exited };

/// Counters of atomic_increment that the thread has acquired: numbers of Launch::counters, sorted.
using Acquired = std::shared_ptr<const std::vector<int>>;

struct Thread {
  Coordinates at;
  int index = 0;  // in the cluster
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint32_t clock = 1;
  Base base;
  Acquired acquired;
  std::vector<uint32_t> fences;  // clocks at which it executed proxy_fence(), ascending
  Wait waits = Wait::none;
  int wait_id = 0;  // of a named barrier
  Mbarrier* wait_barrier = nullptr;
  uint32_t wait_parity = 0;
  std::unique_ptr<Fiber> fiber;
};

struct Warp {
  Thread* lanes = nullptr;  // 32 of them
  uint32_t ready = 0;       // lanes that may run
  uint32_t arrived = 0;     // lanes at the warp operation
  WarpOp op = WarpOp::none;
  int common = 0;  // the mask of shuffle_xor, which all lanes must agree on
  uint64_t value[32], result[32];
  int argument[32];
  uint32_t overlay[32] = {};
};

/// Pending counts, phases and what waiting for a phase tells.
struct Mbarrier {
  Block* block;
  uint32_t offset;
  uint32_t who;  // its id in epochs
  int arrivals = 0, pending = 0;
  int64_t bytes = 0;  // announced minus landed
  uint32_t phase = 0;
  Epoch initialised = 0, published = 0;
  Clocks gathering;                             // of the arrivers and senders so far
  Base complete;                                // as of the last completed phase
  std::vector<std::pair<Base, Base>> acquired;  // base before -> base after waiting: the same for many threads
  Acquired counters;                            // what the arrivers have acquired by atomic_increment
  std::vector<Thread*> waiters;
};

struct Block {
  int rank = 0;
  int64_t number = 0;
  Thread* threads = nullptr;
  int count = 0, exited = 0;
  std::vector<char> bytes;     // shared memory
  std::vector<uint8_t> state;  // per byte: kInitialised, kInFlight
  std::unique_ptr<Shadow> shadow;
  std::vector<Thread*> at_sync;
  std::map<int, std::vector<Thread*>> at_named;
  std::map<uint32_t, std::unique_ptr<Mbarrier>> barriers;  // by offset
  std::set<Epoch> touched_by_peers;                        // accesses of other blocks to this one's shared memory
  bool gone() const { return exited == count; }
};
inline constexpr uint8_t kInitialised = 1, kRead = 2, kInFlight = 4;

/// A bulk copy or a send that has been issued and has not landed.
struct Copy {
  Block* block;  // where it lands
  uint32_t to, bytes;
  const void* from;  // global; null: `value` is sent
  char value[16];
  Mbarrier* barrier;
  uint32_t phase;
  Coordinates issuer;
  int age = 0;
  Base sender;  // what the sender knew; of a send
};

/// A word used by atomic_increment. By cluster: everything that its incrementers knew of themselves.
struct Counter {
  std::map<uint32_t, Clocks> released;
  std::vector<int> inherits;
};

struct Launch {
  const char* name = "";
  cuda::Shape shape;
  Entry entry = nullptr;
  const void *kernel = nullptr, *args = nullptr;
  uint32_t first_cluster = 0, cluster = 0;  // numbers that count on over launches
  size_t clocks = 0;                        // entries of a base
  uint32_t next_barrier = 0;                // the next mbarrier's id
  std::vector<std::pair<const void*, SharedAt>> statics;
  std::map<const void*, int> counter_of;
  std::vector<Counter> counters;
  LaunchRecord record;
};

struct Machine {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Block> blocks;
  std::vector<Thread*> at_cluster;
  std::vector<Copy> copies;
  size_t thread_count = 0, exited = 0;
  Thread* current = nullptr;
  Launch* launch = nullptr;
  std::unique_ptr<Violation> violation;
  uint64_t random_state = 1;

  uint32_t random(uint32_t below) {  // splitmix64
    uint64_t z = (random_state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return uint32_t(((z ^ (z >> 31)) >> 32) * below >> 32);
  }
};
Machine& machine();

// ---- scheduling
void ready(Thread* t);
/// Gives the processor away until somebody calls ready().
void block_current(Wait why);
/// Lets others run first, now and then: schedules differ at more places.
void maybe_yield();
std::string deadlock_text(std::string* name);

// ---- order
bool covers(const Thread& t, Epoch e);
bool covers(const Thread& t, Slot s);
inline Epoch now(const Thread& t) { return epoch_of(uint32_t(t.index), t.clock); }
void tick(Thread* t);
void gather(Clocks* into, const Thread& t);  // everything that t knows
/// A barrier of these threads: all know everything of all.
void meet(const std::vector<Thread*>& threads);
Access access_of(const Thread& t);
Acquired united(const Acquired& a, const Acquired& b);

// ---- memory
void reset_block(Block* b, size_t shared);
void check_shared(const Block& b, SharedAt at, size_t bytes, const char* what);
std::string describe(const Coordinates& c);
std::string describe(Slot s);
[[noreturn]] void race(const char* where, const char* what, const Conflict& c);
/// Real storage behind simulated addresses that a copy reads; checks bounds.
const char* global_source(const void* p, size_t bytes, const char* what);
void global_copy_issued(const void* p, size_t bytes, const Mbarrier& b);
void count_read(const void* p, size_t bytes, bool bulk);
void start_counting();
bool is_simulated(const void* address);

// ---- asynchronous copies
void land_some(bool force);
void check_exit(Block* b);
void install_fault_handler();

}  // namespace fg::sim
