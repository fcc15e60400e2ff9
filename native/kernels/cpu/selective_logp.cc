// Log-prob of the target, log-sum-exp and entropy of each selected row; and their gradient.
#include "kernels/cpu/logits.h"

namespace fg::kernels {
namespace {

void write_row(const SelectiveLogpArgs& a, int64_t row, const RowSoftmax& s) {
  a.logps[row] = float(s.logp);
  if (a.lse) a.lse[row] = float(s.lse);
  if (a.entropies) a.entropies[row] = float(s.entropy);
}

Fault logp_row(const RowKernels& kernels, const SelectiveLogpArgs& a, const Cursor& c) {
  RowResult r{};
  if (c.selected())
    r = forward_row(kernels, a.logits, c.in(a.logits), a.targets[c.row()], a.temperature, a.entropies != nullptr,
                    nullptr);
  const bool bad = c.selected() && !r.softmax.finite;
  write_row(a, c.row(), bad ? RowSoftmax{} : r.softmax);
  return bad ? Fault::logits : Fault::none;
}

Fault backward_row(const RowKernels& kernels, const SelectiveLogpBackwardArgs& a, const Cursor& c,
                   const RowPowers* kept, const void* next) {
  void* out = c.in(a.grad);
  const double g = c.selected() ? a.grad_logps[c.row()] : 0.0;
  const double h = c.selected() && a.grad_entropies ? a.grad_entropies[c.row()] : 0.0;
  if (g == 0 && h == 0) return zero_row(a.grad, out), Fault::none;
  const void* row = c.in(a.logits);
  const int64_t target = a.targets[c.row()];
  const RowResult r = forward_row(kernels, a.logits, row, target, a.temperature, h != 0, h == 0 ? kept : nullptr);
  if (!r.softmax.finite) return zero_row(a.grad, out), Fault::logits;
  gradient_row(kernels, a.logits, row, a.grad, out, target, a.temperature, r, g, h, kept, next);
  return Fault::none;
}

}  // namespace

Status selective_logp(const Context& context, const SelectiveLogpArgs& a) {
  if (const Status s = check_targets(a.layout, a.targets, a.logits.vocab); !s.ok()) return s;
  const RowKernels& kernels = row_kernels();
  parallel_for(context, a.layout.rows, chunk_rows(a.layout.rows, a.logits.vocab), [&](int64_t begin, int64_t end) {
    for (Cursor c(a.layout, begin); c.row() < end; c.next()) a.faults[c.row()] = logp_row(kernels, a, c);
  });
  return first_fault(a.faults, a.layout.rows);
}

Status selective_logp_backward(const Context& context, const SelectiveLogpBackwardArgs& a) {
  if (const Status s = check_targets(a.layout, a.targets, a.logits.vocab); !s.ok()) return s;
  const RowKernels& kernels = row_kernels();
  parallel_for(context, a.layout.rows, chunk_rows(a.layout.rows, a.logits.vocab), [&](int64_t begin, int64_t end) {
    const KeptPowers kept(context, kernels, a.logits, true);
    for (Cursor c(a.layout, begin); c.row() < end; c.next())
      a.faults[c.row()] = backward_row(kernels, a, c, kept.get(), upcoming(c, a.logits, end));
  });
  return first_fault(a.faults, a.layout.rows);
}

}  // namespace fg::kernels
