// Logits -> loss and gradient of the logits. A row is read once from memory: log-prob, entropy, the token's formula and
// the gradient follow each other while it is in cache.
#include "kernels/cpu/logits.h"
#include "kernels/cpu/tokens.h"

namespace fg::kernels {
namespace {

void write_outputs(const GrpoLossArgs& a, int64_t row, const RowSoftmax& s) {
  if (a.logps) a.logps[row] = float(s.logp);
  if (a.lse) a.lse[row] = float(s.lse);
  if (a.entropies) a.entropies[row] = float(s.entropy);
}

void clear_row(const GrpoLossArgs& a, const Cursor& c) {
  write_outputs(a, c.row(), RowSoftmax{});
  if (a.grad.data) zero_row(a.grad, c.in(a.grad));
}

void loss_row(const RowKernels& kernels, const LossParams& p, const GrpoLossArgs& a, const Cursor& c, bool entropy,
              const void* next) {
  TokenRecord* record = a.records + c.row();
  if (!record->selected) return clear_row(a, c);
  const void* row = c.in(a.logits);
  const int64_t target = a.targets[c.row()];
  const RowResult r = forward_row(kernels, a.logits, row, target, a.temperature, entropy);
  if (!r.softmax.finite) {
    record->fault = Fault::logits;
    return clear_row(a, c);
  }
  write_outputs(a, c.row(), r.softmax);
  const double slope = token_step(p, a.batch, c.row(), r.softmax.logp, entropy ? r.softmax.entropy : 0.0, record);
  if (!a.grad.data) return;
  gradient_row(kernels, a.logits, row, a.grad, c.in(a.grad), target, a.temperature, r, slope, -a.batch.entropy_weight,
               next);
}

Status first_fault(const TokenRecord* records, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i)
    if (records[i].fault != Fault::none) return {records[i].fault, i};
  return {};
}

}  // namespace

Status grpo_loss(const Context& context, const LossParams& p, const GrpoLossArgs& a, PolicyMetrics* metrics) {
  const Layout& l = a.batch.layout;
  if (const Status s = check_targets(l, a.targets, a.logits.vocab); !s.ok()) return s;
  if (const Status s = prepare_tokens(p, a.batch, a.records); !s.ok()) return s;
  const RowKernels& kernels = row_kernels();
  const bool entropy = a.want_entropy || a.entropies || a.batch.entropy_weight != 0;
  parallel_for(context, l.rows, chunk_rows(l.rows, a.logits.vocab), [&](int64_t begin, int64_t end) {
    for (Cursor c(l, begin); c.row() < end; c.next())
      loss_row(kernels, p, a, c, entropy, a.grad.data ? upcoming(c, a.logits, end) : nullptr);
  });
  *metrics = collect_metrics(l, a.records);
  return first_fault(a.records, l.rows);
}

}  // namespace fg::kernels
