#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A number depends on its key and counter alone, never on what was drawn before, on which thread, or beside which other
// sequences.
#include <cmath>
#include <cstdint>

#include "math/scalar.h"

namespace fg {

struct Philox {
  uint32_t v[4];
};

FG_HD inline Philox philox4x32(uint32_t k0, uint32_t k1, Philox c) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c.v[0], p1 = uint64_t{0xCD9E8D57} * c.v[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.v[1] ^ k0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.v[3] ^ k1, static_cast<uint32_t>(p0)}};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

/// Uniform in [0, 1) with 53 bits for one sampled token.
FG_HD inline double token_uniform(uint64_t seed, uint32_t step, uint32_t prompt, uint32_t completion, uint32_t token) {
  const Philox r =
      philox4x32(static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), {{token, completion, prompt, step}});
  const uint64_t bits = (uint64_t{r.v[0]} << 32 | r.v[1]) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

/// Standard normal number `index` of a seed (Box-Muller).
inline double seeded_normal(uint64_t seed, uint32_t index) {
  const double radius = std::sqrt(-2 * std::log(1 - token_uniform(seed, 0, 0, 0, index)));
  return radius * std::cos(2 * 3.14159265358979323846 * token_uniform(seed, 0, 0, 1, index));
}

}  // namespace fg
