#include "simulator/shadow.h"

#include "simulator/machine.h"

namespace fg::sim {

namespace {

std::vector<EpochSet> sets;
std::vector<uint32_t> free_sets;
uint32_t first_of_launch = 1;

bool is_set(Slot s) { return who_of(s.epoch) == kSetWho; }
EpochSet& set_of(Slot s) { return sets[clock_of(s.epoch)]; }

void drop(Slot* s) {
  if (s->cluster >= first_of_launch && is_set(*s)) {
    set_of(*s).warps.clear();
    free_sets.push_back(clock_of(s->epoch));
  }
  *s = {};
}

void insert(EpochSet* set, Epoch e) {
  const uint32_t warp = who_of(e) >> 5, lane = who_of(e) & 31;
  for (auto& w : set->warps) {
    if (w.warp == warp) return void(w.clock[lane] = clock_of(e));
  }
  set->warps.push_back({warp, {}});
  set->warps.back().clock[lane] = clock_of(e);
}

uint32_t new_set() {
  if (free_sets.empty()) {
    if (sets.size() > kMaxClock) fail("simulator limit", "too many sets of readers");
    free_sets.push_back(uint32_t(sets.size()));
    sets.emplace_back();
  }
  const uint32_t index = free_sets.back();
  free_sets.pop_back();
  sets[index].tried = nullptr;
  return index;
}

Slot make_set(uint32_t cluster, Epoch a, Epoch b) {
  const uint32_t index = new_set();
  insert(&sets[index], a);
  insert(&sets[index], b);
  return {cluster, epoch_of(kSetWho, index)};
}

/// The first epoch of the slot that is not ordered before the access; an empty slot when all are.
Slot unordered(Slot s, const Access& a) {
  if (s.cluster < a.first) return {};
  if (!is_set(s)) return covers(*a.thread, s) ? Slot{} : s;
  for (const auto& w : set_of(s).warps) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const Slot one{s.cluster, epoch_of(w.warp * 32 + lane, w.clock[lane])};
      if (w.clock[lane] != 0 && !covers(*a.thread, one)) return one;
    }
  }
  return {};
}

bool check(Slot s, const Access& a, const char* kind, Conflict* c) {
  if (s.cluster < a.first) return true;
  const Slot bad = unordered(s, a);
  if (bad.empty()) return true;
  *c = {true, bad, kind};
  return false;
}

/// Adds the access to those that the slot holds; ones that are ordered before it need not be kept.
void record(Slot* slot, Slot* older, const Access& a) {
  const Slot mine{a.cluster, a.epoch};
  if (slot->cluster < a.first) {
    drop(slot);
    *slot = mine;
    return;
  }
  const bool set = is_set(*slot);
  const bool retry = !set || set_of(*slot).tried != a.thread->base.get();
  if (retry && unordered(*slot, a).empty()) {
    drop(slot);
    *slot = mine;
  } else if (slot->cluster != a.cluster) {
    if (older) drop(older), *older = *slot;
    *slot = mine;
  } else if (set) {
    set_of(*slot).tried = a.thread->base.get();
    insert(&set_of(*slot), a.epoch);
  } else {
    *slot = make_set(a.cluster, slot->epoch, a.epoch);
    set_of(*slot).tried = a.thread->base.get();
  }
}

bool same(Slot s, const Access& a) { return s.cluster == a.cluster && s.epoch == a.epoch; }

bool check_as_write(const Cell& c, const Access& a, Conflict* conflict) {
  return check(c.write, a, "a write", conflict) && check(c.read, a, "a read", conflict) &&
         check(c.atomic, a, "an atomic operation", conflict) && check(c.older, a, "a read", conflict);
}

void become_write(Cell* c, Slot by) {
  drop(&c->read), drop(&c->atomic), drop(&c->older);
  c->write = by;
}

}  // namespace

void clear_sets(uint32_t first) {
  first_of_launch = first;
  sets.clear();
  free_sets.clear();
}

Cell cloned(const Cell& c) {
  Cell out = c;
  for (Slot* s : {&out.read, &out.atomic, &out.older}) {
    if (s->cluster < first_of_launch || !is_set(*s)) continue;
    const uint32_t index = new_set();
    sets[index] = set_of(*s);
    s->epoch = epoch_of(kSetWho, index);
  }
  return out;
}

Conflict Shadow::read(size_t offset, size_t bytes, const Access& a) {
  Conflict conflict;
  each(offset, bytes, [&](Cell& c) {
    if (same(c.read, a)) return true;  // nothing can have been written since without a conflict
    if (!check(c.write, a, "a write", &conflict)) return false;
    if (!check(c.atomic, a, "an atomic operation", &conflict)) return false;
    record(&c.read, &c.older, a);
    return true;
  });
  return conflict;
}

Conflict Shadow::write(size_t offset, size_t bytes, const Access& a) {
  Conflict conflict;
  each(offset, bytes, [&](Cell& c) {
    if (!check_as_write(c, a, &conflict)) return false;
    become_write(&c, {a.cluster, a.epoch});
    return true;
  });
  return conflict;
}

Conflict Shadow::atomic(size_t offset, size_t bytes, const Access& a) {
  Conflict conflict;
  each(offset, bytes, [&](Cell& c) {
    if (same(c.atomic, a)) return true;
    if (!check(c.write, a, "a write", &conflict) || !check(c.read, a, "a read", &conflict) ||
        !check(c.older, a, "a read", &conflict))
      return false;
    record(&c.atomic, nullptr, a);
    return true;
  });
  return conflict;
}

Conflict Shadow::check_write(size_t offset, size_t bytes, const Access& a) {
  Conflict conflict;
  each(offset, bytes, [&](Cell& c) { return check_as_write(c, a, &conflict); });
  return conflict;
}

void Shadow::landed(size_t offset, size_t bytes, Slot by) {
  each(offset, bytes, [&](Cell& c) { return become_write(&c, by), true; });
}

void Shadow::read_by_copy(size_t offset, size_t bytes, const Access& a) {
  each(offset, bytes, [&](Cell& c) {
    // The copy's reads are ordered after nothing that its waiters know: earlier readers stay.
    if (c.read.cluster == a.cluster && !is_set(c.read))
      c.read = make_set(a.cluster, c.read.epoch, a.epoch);
    else if (c.read.cluster == a.cluster)
      insert(&set_of(c.read), a.epoch);
    else
      record(&c.read, &c.older, a);
    return true;
  });
}

}  // namespace fg::sim
