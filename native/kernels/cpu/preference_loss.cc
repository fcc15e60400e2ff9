// Pairs of rewards -> the reward model's loss and its derivatives. The formula is math/preference_loss.h.
#include "math/preference_loss.h"

#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

float margin(const PreferenceLossArgs& a, int64_t i) { return a.margins ? a.margins[i] : 0.0f; }

}  // namespace

Status preference_loss(const PreferenceLossArgs& a, Totals* totals) {
  for (int64_t i = 0; i < a.pairs; ++i) {
    const Fault f = preference_fault(a.chosen[i], a.rejected[i], margin(a, i));
    if (f != Fault::none) return {f, i};
  }
  Totals t;
  for (int64_t i = 0; i < a.pairs; ++i) {
    const auto pair = preference_pair(a.chosen[i], a.rejected[i], margin(a, i), a.center_coefficient);
    t.loss += pair.loss / a.normalizer;
    a.grad_chosen[i] = float(pair.by_chosen / a.normalizer);
    a.grad_rejected[i] = float(pair.by_rejected / a.normalizer);
    ++t.count, t.ranked += a.chosen[i] > a.rejected[i];
    t.margin += double(a.chosen[i]) - a.rejected[i];
  }
  *totals = t;
  return {};
}

}  // namespace fg::kernels
