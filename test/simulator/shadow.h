#pragma once
// Who touched which bytes: one cell per 4-byte word, four where parts of a word are touched on their own. A cell keeps
// the last write and the reads and atomic operations since; older ones are ordered before those.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "simulator/clocks.h"

namespace fg::sim {

struct Thread;

/// An access of the cluster number `cluster` (they count on over launches: what an earlier launch did is old).
struct Slot {
  uint32_t cluster = 0;
  Epoch epoch = 0;
  bool empty() const { return cluster == 0; }
};

struct Cell {
  Slot write, read, atomic;
  Slot older;  // a read by another cluster that is not ordered before `read`
};

/// Several accesses, none ordered before another. By warps: broadcasts are the common case.
struct EpochSet {
  struct Warp {
    uint32_t warp;
    std::array<uint32_t, 32> clock;
  };
  std::vector<Warp> warps;
  const Clocks* tried = nullptr;  // the base with which superseding the set was tried last
};

/// What an access is compared with. `first`: clusters before it are ordered before this one whatever happened.
struct Access {
  const Thread* thread;
  uint32_t cluster, first;
  Epoch epoch;
};

/// The outcome of a check: empty, or who is in conflict.
struct Conflict {
  bool found = false;
  Slot with;
  const char* kind = "";  // what the other did
};

class Shadow {
 public:
  explicit Shadow(size_t bytes)
      : words_((bytes + 3) / 4), cells_(static_cast<Cell*>(std::calloc(words_ + 1, sizeof(Cell))), &std::free) {}

  /// Checks and records. They return the first conflict.
  Conflict read(size_t offset, size_t bytes, const Access& a);
  Conflict write(size_t offset, size_t bytes, const Access& a);
  Conflict atomic(size_t offset, size_t bytes, const Access& a);
  /// Checks as a write, records nothing: a copy is issued that will write there.
  Conflict check_write(size_t offset, size_t bytes, const Access& a);
  /// Records without checking: a copy has landed / will read.
  void landed(size_t offset, size_t bytes, Slot by);
  void read_by_copy(size_t offset, size_t bytes, const Access& a);
  /// Calls fn(Slot of the last write) for every cell of the range.
  template <class Fn>
  void writes(size_t offset, size_t bytes, Fn&& fn) {
    each(offset, bytes, [&](Cell& c) { return fn(c.write), true; });
  }

 private:
  template <class Fn>
  bool each(size_t offset, size_t bytes, Fn&& fn);
  template <class Fn>
  bool partial(size_t word, size_t from, size_t to, Fn&& fn);

  size_t words_;
  std::unique_ptr<Cell, void (*)(void*)> cells_;
  std::vector<std::array<Cell, 4>> split_;  // the cells of words that are touched in parts
};

/// Before a launch, whose first cluster has that number: sets of readers are kept for one launch.
void clear_sets(uint32_t first);
/// A copy of the cell that shares no set with it.
Cell cloned(const Cell& c);

constexpr uint32_t kSplit = 0xFFFFFFFFu;  // in write.cluster: write.epoch is the index in split_

template <class Fn>
bool Shadow::partial(size_t word, size_t from, size_t to, Fn&& fn) {
  Cell& cell = cells_.get()[word];
  if (cell.write.cluster != kSplit) {
    if (from == 0 && to == 4) return fn(cell);
    split_.push_back({cell, cloned(cell), cloned(cell), cloned(cell)});
    cell = {};
    cell.write = {kSplit, Epoch(split_.size() - 1)};
  }
  auto& parts = split_[cell.write.epoch];
  for (size_t i = from; i < to; ++i)
    if (!fn(parts[i])) return false;
  return true;
}

template <class Fn>
bool Shadow::each(size_t offset, size_t bytes, Fn&& fn) {
  const size_t end = offset + bytes;
  for (size_t at = offset; at < end;) {
    const size_t word = at / 4, next = std::min(end, word * 4 + 4);
    if (!partial(word, at - word * 4, next - word * 4, fn)) return false;
    at = next;
  }
  return true;
}

}  // namespace fg::sim
