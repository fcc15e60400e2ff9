#pragma once
// Happens-before. Every thread of a cluster has a clock that ticks when it releases (barrier, warp operation, arrival);
// "u's access at clock k is ordered before t" is "t knows u's clock k". What t knows: a base that it shares with others
// (one entry per thread and per mbarrier), its warp's overlay (clocks at the last warp operation, in which all 32 lanes
// take part), and itself. So block barriers make one new base for all, and warp operations touch 32 numbers.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace fg::sim {

/// Who did something at which of its clocks: 13 and 19 bits. Ids of mbarriers follow those of the threads: they stand
/// for the asynchronous copies that complete on them, and their clock is the number of the phase.
using Epoch = uint32_t;
inline constexpr uint32_t kClockBits = 19, kMaxClock = (1u << kClockBits) - 1, kMaxWho = (1u << 13) - 2;
inline constexpr uint32_t kSetWho = kMaxWho + 1;  // the "clock" is the number of a set of epochs
inline Epoch epoch_of(uint32_t who, uint32_t clock) { return who << kClockBits | clock; }
inline uint32_t who_of(Epoch e) { return e >> kClockBits; }
inline uint32_t clock_of(Epoch e) { return e & kMaxClock; }

using Clocks = std::vector<uint32_t>;
using Base = std::shared_ptr<const Clocks>;

inline void join(Clocks* into, const Clocks& from) {
  for (size_t i = 0; i < from.size(); ++i) (*into)[i] = std::max((*into)[i], from[i]);
}

}  // namespace fg::sim
