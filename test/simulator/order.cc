// Who knows what of whom, and what a Violation says.
#include "simulator/machine.h"

namespace fg::sim {

bool covers(const Thread& t, Epoch e) {
  const uint32_t who = who_of(e), clock = clock_of(e);
  if (who == uint32_t(t.index) || (*t.base)[who] >= clock) return true;
  return who >> 5 == uint32_t(t.index) >> 5 && t.warp->overlay[who & 31] >= clock;
}

bool covers(const Thread& t, Slot s) {
  const Launch& l = *machine().launch;
  if (s.cluster == l.cluster) return covers(t, s.epoch);
  if (!t.acquired) return false;
  for (const int i : *t.acquired) {
    const auto& released = l.counters[size_t(i)].released;
    const auto found = released.find(s.cluster);
    if (found != released.end() && found->second[who_of(s.epoch)] >= clock_of(s.epoch)) return true;
  }
  return false;
}

void tick(Thread* t) {
  if (++t->clock >= kMaxClock) fail("simulator limit", "a thread synchronises too often in one launch");
}

void gather(Clocks* into, const Thread& t) {
  join(into, *t.base);
  const size_t first = size_t(t.index) & ~size_t(31);
  for (size_t i = 0; i < 32; ++i) (*into)[first + i] = std::max((*into)[first + i], t.warp->overlay[i]);
  (*into)[size_t(t.index)] = std::max((*into)[size_t(t.index)], t.clock);
}

Acquired united(const Acquired& a, const Acquired& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto out = std::make_shared<std::vector<int>>();
  std::set_union(a->begin(), a->end(), b->begin(), b->end(), std::back_inserter(*out));
  return out;
}

void meet(const std::vector<Thread*>& threads) {
  auto all = std::make_shared<Clocks>(*threads[0]->base);
  const Clocks* joined = threads[0]->base.get();
  const Warp* warp = nullptr;
  Acquired acquired;
  for (const Thread* t : threads) {
    if (t->base.get() != joined) join(all.get(), *t->base), joined = t->base.get();
    const size_t first = size_t(t->index) & ~size_t(31);
    for (size_t i = 0; i < 32 && t->warp != warp; ++i)
      (*all)[first + i] = std::max((*all)[first + i], t->warp->overlay[i]);
    warp = t->warp;
    (*all)[size_t(t->index)] = t->clock;
    acquired = united(acquired, t->acquired);
  }
  for (Thread* t : threads) {
    t->base = all;
    t->acquired = acquired;
    tick(t);
  }
}

Access access_of(const Thread& t) {
  const Launch& l = *machine().launch;
  return {&t, l.cluster, l.first_cluster, now(t)};
}

std::string describe(const Coordinates& c) {
  return "block " + std::to_string(c.block) + ", thread " + std::to_string(c.thread);
}

std::string describe(Slot s) {
  const Machine& m = machine();
  if (s.cluster != m.launch->cluster) return "a block of another cluster";
  const uint32_t who = who_of(s.epoch);
  if (who >= m.thread_count) return "an asynchronous copy";
  return describe(m.threads[who].at);
}

void race(const char* where, const char* what, const Conflict& c) {
  fail("race",
       std::string(what) + " of " + where + " memory is not ordered after " + c.kind + " by " + describe(c.with));
}

void fail(const char* name, const std::string& what) {
  Machine& m = machine();
  std::string text = std::string(name) + ": " + what;
  if (m.launch) text += std::string(" (kernel ") + m.launch->name;
  if (m.launch && m.current) text += ", " + describe(m.current->at);
  if (m.launch) text += ")";
  if (!m.current) throw Violation(name, text);
  m.violation = std::make_unique<Violation>(name, text);
  for (;;) m.current->fiber->suspend();  // never resumed: what is on this stack is abandoned
}

}  // namespace fg::sim
