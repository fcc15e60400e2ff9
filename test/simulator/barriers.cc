// Where threads meet: warp operations, block, named and cluster barriers; and what a deadlock looks like.
#include <map>
#include <utility>

#include "simulator/machine.h"

namespace fg::sim {

namespace {

const char* const kOpNames[] = {"nothing", "sync_warp", "shuffle", "shuffle_xor", "ballot"};

void finish_warp_op(Warp* w) {
  uint32_t votes = 0;
  for (int i = 0; i < 32; ++i) votes |= uint32_t(w->argument[i] != 0) << i;
  for (int i = 0; i < 32; ++i) {
    if (w->op == WarpOp::shuffle) w->result[i] = w->value[w->argument[i] & 31];
    if (w->op == WarpOp::shuffle_xor) w->result[i] = w->value[(i ^ w->argument[i]) & 31];
    if (w->op == WarpOp::ballot) w->result[i] = votes;
  }
  bool one_base = true;
  Acquired acquired;
  for (int i = 0; i < 32; ++i) {
    w->overlay[i] = w->lanes[i].clock;
    one_base = one_base && w->lanes[i].base == w->lanes[0].base;
    acquired = united(acquired, w->lanes[i].acquired);
  }
  if (!one_base) {
    auto all = std::make_shared<Clocks>(*w->lanes[0].base);
    const Clocks* joined = w->lanes[0].base.get();
    for (int i = 1; i < 32; ++i)
      if (w->lanes[i].base.get() != joined) joined = w->lanes[i].base.get(), join(all.get(), *joined);
    for (int i = 0; i < 32; ++i) w->lanes[i].base = all;
  }
  w->op = WarpOp::none, w->arrived = 0;
  const Thread* last = machine().current;
  for (int i = 0; i < 32; ++i) {
    w->lanes[i].acquired = acquired;
    tick(&w->lanes[i]);
    if (&w->lanes[i] != last) ready(&w->lanes[i]);
  }
}

void release_all(std::vector<Thread*>* at) {
  const std::vector<Thread*> threads = std::exchange(*at, {});
  meet(threads);
  for (Thread* t : threads) ready(t);
}

/// The caller is the last one and waits like the others: it need not be the first to go on.
void arrive(std::vector<Thread*>* at, size_t count, Wait why) {
  at->push_back(machine().current);
  if (at->size() == count)
    release_all(at), machine().current->fiber->suspend();
  else
    block_current(why);
}

}  // namespace

uint64_t warp_rendezvous(WarpOp op, uint64_t value, int argument) {
  Thread* t = machine().current;
  Warp* w = t->warp;
  const int lane = t->at.lane;
  if (w->op != WarpOp::none && (w->op != op || (op == WarpOp::shuffle_xor && w->common != argument)))
    fail("divergent warp operation", std::string("a lane arrives at ") + kOpNames[int(op)] + " while others wait at " +
                                         kOpNames[int(w->op)] + (w->op == op ? " with another mask" : ""));
  for (int i = 0; i < 32 && w->op == WarpOp::none; ++i)
    if (w->lanes[i].waits == Wait::exited) fail("divergent warp operation", "a warp operation after a lane has exited");
  w->op = op, w->common = argument;
  w->value[lane] = value, w->argument[lane] = argument;
  w->arrived |= 1u << lane;
  if (w->arrived == 0xFFFFFFFFu)
    finish_warp_op(w);
  else
    block_current(Wait::warp);
  return w->result[lane];
}

void block_sync() {
  Block& b = *machine().current->block;
  if (b.exited > 0) fail("divergent barrier", "sync() after a thread of the block has exited");
  arrive(&b.at_sync, size_t(b.count), Wait::block);
}

void named_sync(int id, int count) {
  Thread* t = machine().current;
  if (id < 1 || id > 15 || count < 32 || count % 32 != 0 || count > t->block->count)
    fail("bad argument", "named_barrier(" + std::to_string(id) + ", " + std::to_string(count) + ")");
  t->wait_id = id;
  arrive(&t->block->at_named[id], size_t(count), Wait::named);
}

void cluster_sync_all() {
  Machine& m = machine();
  if (device().major < 9) fail("bad argument", "clusters need sm_90");
  if (m.exited > 0) fail("divergent barrier", "cluster_sync() after a thread of the cluster has exited");
  arrive(&m.at_cluster, m.thread_count, Wait::cluster);
}

namespace {

std::string waits_for(const Thread& t) {
  switch (t.waits) {
    case Wait::warp:
      return std::string("the warp operation ") + kOpNames[int(t.warp->op)];
    case Wait::block:
      return "sync()";
    case Wait::named:
      return "named_barrier(" + std::to_string(t.wait_id) + ")";
    case Wait::cluster:
      return "cluster_sync()";
    case Wait::mbarrier:
      return "phase " + std::to_string(t.wait_barrier->phase) + " of the barrier at byte " +
             std::to_string(t.wait_barrier->offset) + " (barrier waits for " + std::to_string(t.wait_barrier->pending) +
             " arrivals and " + std::to_string(t.wait_barrier->bytes) + " bytes)";
    case Wait::exited:
      return "nothing (exited)";
    case Wait::none:
      return "nothing";
  }
  return "";
}

}  // namespace

std::string deadlock_text(std::string* name) {
  const Machine& m = machine();
  std::map<std::string, std::pair<int, std::string>> groups;
  bool warp = false, barrier = false, asynchronous = false;
  for (size_t i = 0; i < m.thread_count; ++i) {
    const Thread& t = m.threads[i];
    warp = warp || t.waits == Wait::warp;
    barrier = barrier || t.waits == Wait::block || t.waits == Wait::named || t.waits == Wait::cluster;
    asynchronous = asynchronous || t.waits == Wait::mbarrier;
    auto& group = groups["rank " + std::to_string(t.at.rank) + ": " + waits_for(t)];
    if (group.first++ == 0) group.second = std::to_string(t.at.thread);
  }
  *name = warp ? "divergent warp operation" : asynchronous || !barrier ? "deadlock" : "divergent barrier";
  std::string text = "no thread can go on;";
  int listed = 0;
  for (const auto& [what, group] : groups) {
    if (++listed > 12) return text + " ...";
    text += " " + std::to_string(group.first) + " threads (first: " + group.second + ") of " + what + ";";
  }
  return text;
}

}  // namespace fg::sim
