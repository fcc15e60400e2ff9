// Rewards 0 or 1 of groups -> advantages for Pass@k. The formula is math/pass_at_k_advantages.h.
#include "math/pass_at_k_advantages.h"

#include <algorithm>

#include "kernels/value_ops.h"

namespace fg::kernels {

Status pass_at_k_advantages(const PassAtKArgs& a) {
  for (int64_t i = 0; i < a.count; ++i)
    if (const Fault f = binary_fault(a.rewards[i]); f != Fault::none) return {f, i};
  for (int64_t g = 0; g < a.groups; ++g) {
    const int64_t begin = a.group_offsets[g], end = a.group_offsets[g + 1];
    const PassAtK of = pass_at_k(end - begin, std::count(a.rewards + begin, a.rewards + end, 0.0), a.k);
    for (int64_t i = begin; i < end; ++i) a.advantages[i] = float(a.rewards[i] == 1 ? of.right : of.wrong);
    a.pass_at_k[g] = float(of.pass);
  }
  return {};
}

}  // namespace fg::kernels
