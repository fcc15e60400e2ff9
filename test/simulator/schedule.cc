// Running a grid: clusters one after another, the threads of a cluster in rounds, all in an order drawn from the seed.
#include <utility>

#include "simulator/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fg::sim {

Coordinates here;

Machine& machine() {
  static Machine* const instance = new Machine;
  return *instance;
}

void ready(Thread* t) {
  t->waits = Wait::none;
  t->warp->ready |= 1u << t->at.lane;
}

void block_current(Wait why) {
  Thread* t = machine().current;
  t->waits = why;
  t->fiber->suspend();
}

void maybe_yield() {
  Machine& m = machine();
  if (m.random(8) != 0) return;
  ready(m.current);
  m.current->fiber->suspend();
}

namespace {

void thread_exits(Thread* t) {
  Machine& m = machine();
  Block& b = *t->block;
  if (t->warp->op != WarpOp::none)
    fail("divergent warp operation", "a lane exits while others wait at a warp operation");
  if (!b.at_sync.empty()) fail("divergent barrier", "a thread exits while others of its block wait at sync()");
  if (!m.at_cluster.empty()) fail("divergent barrier", "a thread exits while others wait at cluster_sync()");
  ++b.exited, ++m.exited;
  if (b.gone()) check_exit(&b);
  t->waits = Wait::exited;
}

void fiber_entry() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  Machine& m = machine();
  const Launch& l = *m.launch;
  l.entry(l.kernel, l.args);
  Thread* t = m.current;
  thread_exits(t);
  for (;;) t->fiber->suspend();
}

void run(Thread* t) {
  Machine& m = machine();
  uint64_t& digest = m.launch->record.schedule;
  digest = (digest ^ (uint64_t(t->at.block) << 12 ^ uint64_t(t->at.thread))) * 0x9E3779B97F4A7C15ull;
  digest ^= digest >> 29;
  m.current = t;
  here = t->at;
  t->fiber->resume();
  m.current = nullptr;
  if (m.violation) throw Violation(*m.violation);
}

void run_warp(Warp* w) {
  Machine& m = machine();
  const uint32_t lanes = w->ready, start = m.random(32), stride = m.random(16) * 2 + 1;
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t lane = (start + i * stride) & 31;
    if (!(lanes >> lane & 1)) continue;
    w->ready &= ~(1u << lane);
    run(&w->lanes[lane]);
  }
}

void stuck() {
  std::string name;
  const std::string text = deadlock_text(&name);
  fail(name.c_str(), text);
}

/// Some rounds leave some warps out, so that others run ahead.
void run_rounds() {
  Machine& m = machine();
  std::vector<Warp*> order;
  while (m.exited < m.thread_count) {
    order.clear();
    for (size_t i = 0; i < m.thread_count / 32; ++i)
      if (m.warps[i].ready) order.push_back(&m.warps[i]);
    if (order.empty()) {
      if (m.copies.empty()) stuck();
      land_some(true);
      continue;
    }
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[m.random(uint32_t(i))]);
    const bool lazy = m.random(4) == 0;
    for (size_t i = 0; i < order.size(); ++i)
      if (i == 0 || !lazy || m.random(2) == 0) run_warp(order[i]);
    if (!m.copies.empty()) land_some(false);
  }
}

void prepare_threads(const cuda::Shape& s) {
  Machine& m = machine();
  const size_t n = size_t(s.cluster) * size_t(s.threads);
  m.thread_count = n;
  if (m.threads.size() < n) m.threads.resize(n);
  if (m.warps.size() < n / 32) m.warps.resize(n / 32);
  if (m.blocks.size() != size_t(s.cluster)) m.blocks.resize(size_t(s.cluster));
  for (size_t i = 0; i < n; ++i)
    if (!m.threads[i].fiber) m.threads[i].fiber = std::make_unique<Fiber>();
}

void reset_thread(Thread* t, size_t index, const cuda::Shape& s, int64_t cluster, const Base& base) {
  Machine& m = machine();
  t->index = int(index);
  t->at = {int(index) % s.threads,
           s.threads,
           int(index % 32),
           int(index) % s.threads / 32,
           int(index) / s.threads,
           s.cluster,
           cluster * s.cluster + int64_t(index) / s.threads,
           s.blocks};
  t->block = &m.blocks[index / size_t(s.threads)];
  t->warp = &m.warps[index / 32];
  t->clock = 1;
  t->base = base;
  t->acquired = nullptr;
  t->fences.clear();
  t->waits = Wait::none;
  t->fiber->start(fiber_entry);
}

void run_cluster(int64_t cluster) {
  Machine& m = machine();
  Launch& l = *m.launch;
  const cuda::Shape& s = l.shape;
  m.exited = 0;
  m.at_cluster.clear(), m.copies.clear();
  l.next_barrier = uint32_t(m.thread_count);
  for (int r = 0; r < s.cluster; ++r) {
    Block& b = m.blocks[size_t(r)];
    reset_block(&b, s.shared);
    b.rank = r, b.number = cluster * s.cluster + r, b.count = s.threads;
    b.threads = &m.threads[size_t(r) * size_t(s.threads)];
  }
  const auto base = std::make_shared<const Clocks>(l.clocks);
  for (size_t i = 0; i < m.thread_count; ++i) reset_thread(&m.threads[i], i, s, cluster, base);
  for (size_t i = 0; i < m.thread_count / 32; ++i) {
    m.warps[i] = Warp{};
    m.warps[i].lanes = &m.threads[i * 32];
    m.warps[i].ready = 0xFFFFFFFFu;
  }
  run_rounds();
}

bool accepted(const cuda::Shape& s) {
  return s.threads > 0 && s.threads % 32 == 0 && s.threads <= 1024 && s.blocks > 0 && s.blocks < (int64_t(1) << 31) &&
         s.cluster >= 1 && s.cluster <= 8 && s.blocks % s.cluster == 0 && s.shared <= device().shared_per_block &&
         (s.cluster == 1 || device().major >= 9);
}

uint32_t next_cluster = 1;
uint64_t current_seed = 1, launches_since_seed = 0;
std::vector<LaunchRecord> records;

struct Running {  // restores the machine however the launch ends
  explicit Running(Launch* l) {
    machine().launch = l;
    machine().violation = nullptr;
  }
  ~Running() {
    machine().launch = nullptr;
    machine().current = nullptr;
  }
};

}  // namespace

void set_seed(uint64_t s) { current_seed = s, launches_since_seed = 0; }
uint64_t seed() { return current_seed; }
std::vector<LaunchRecord> take_launches() { return std::exchange(records, {}); }

int run_grid(const char* name, const cuda::Shape& shape, Entry entry, const void* kernel, const void* args) {
  if (!accepted(shape)) return 1;
  Machine& m = machine();
  install_fault_handler();
  Launch l;
  l.name = name, l.shape = shape, l.entry = entry, l.kernel = kernel, l.args = args;
  const int64_t clusters = shape.blocks / shape.cluster;
  l.first_cluster = next_cluster;
  next_cluster += uint32_t(clusters);
  l.clocks = size_t(shape.cluster) * size_t(shape.threads) + size_t(shape.cluster) * 128;  // 128 mbarriers per block
  if (l.clocks > kMaxWho) throw Violation("simulator limit", "clusters of at most 7168 threads");
  l.record.kernel = name, l.record.shape = shape;
  const Running running(&l);
  m.random_state = current_seed * 0x9E3779B97F4A7C15ull + ++launches_since_seed * 0xD1342543DE82EF95ull;
  clear_sets(l.first_cluster);
  start_counting();
  prepare_threads(shape);
  std::vector<int64_t> order(static_cast<size_t>(clusters));
  for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[m.random(uint32_t(i))]);
  for (size_t i = 0; i < order.size(); ++i) {
    l.cluster = l.first_cluster + uint32_t(i);
    run_cluster(order[i]);
  }
  records.push_back(std::move(l.record));
  return 0;
}

}  // namespace fg::sim
