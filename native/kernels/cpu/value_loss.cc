// Values of tokens -> the critic's loss and its derivative by them. The formula is math/value_loss.h.
#include "math/value_loss.h"

#include "kernels/cpu/tokens.h"
#include "kernels/value_ops.h"

namespace fg::kernels {
namespace {

float old_value(const ValueLossArgs& a, int64_t row) { return a.clip < kUnbounded ? a.old_values[row] : 0.0f; }

Status check(const ValueLossArgs& a) {
  for (int64_t row = 0; row < a.layout.rows; ++row) {
    if (!in_mask(a.layout, row)) continue;
    const Fault f = value_fault(a.values[row], old_value(a, row), a.returns[row]);
    if (f != Fault::none) return {f, row};
  }
  return {};
}

}  // namespace

Status value_loss(const ValueLossArgs& a, Totals* totals) {
  if (const Status s = check(a); !s.ok()) return s;
  Totals t;
  for (int64_t row = 0; row < a.layout.rows; ++row) {
    a.grad_values[row] = 0;
    if (!in_mask(a.layout, row)) continue;
    const ValueError e = value_error(a.values[row], a.returns[row], old_value(a, row), a.clip);
    t.loss += e.loss / a.normalizer;
    a.grad_values[row] = float(e.by_value / a.normalizer);
    ++t.count, t.clipped += e.clipped;
  }
  *totals = t;
  return {};
}

}  // namespace fg::kernels
