// Rewards and values of tokens -> advantages and returns. The recursion is math/gae.h, here from the last token back.
#include "math/gae.h"

#include "kernels/cpu/tokens.h"
#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

Status check(const GaeArgs& a) {
  const Layout& l = a.layout;
  for (int64_t row = 0; row < l.rows; ++row) {
    if (!in_mask(l, row)) continue;
    if (const Fault f = gae_fault(a.rewards[row], a.values[row]); f != Fault::none) return {f, row};
  }
  for (int64_t s = 0; s < l.sequences && a.last_values; ++s)
    for (int64_t row = begin_of(l, s); row < end_of(l, s); ++row)
      if (in_mask(l, row) && !is_finite(a.last_values[s])) return {Fault::last_value, s};
  return {};
}

}  // namespace

Status gae(const GaeArgs& a, void* workspace) {
  if (const Status s = check(a); !s.ok()) return s;
  const Layout& l = a.layout;
  auto* advantages = static_cast<double*>(workspace);
  Moments all;
  for (int64_t s = 0; s < l.sequences; ++s) {
    GaeState state{0, a.last_values ? a.last_values[s] : 0.0};
    for (int64_t row = end_of(l, s) - 1; row >= begin_of(l, s); --row) {
      advantages[row] = 0, a.returns[row] = 0;
      if (!in_mask(l, row)) continue;
      state = gae_token(a.options, a.rewards[row], a.values[row])(state);
      all.add(advantages[row] = state.advantage);
      a.returns[row] = float(state.advantage + state.value);
    }
  }
  for (int64_t row = 0; row < l.rows; ++row) {
    const bool whitens = a.options.whiten && in_mask(l, row);
    a.advantages[row] = float(whitens ? whitened(advantages[row], all) : advantages[row]);
  }
  return {};
}

}  // namespace fg::kernels
