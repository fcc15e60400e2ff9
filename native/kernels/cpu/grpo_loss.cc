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

/// The row's statistics; false when there is nothing more to do with it.
bool read_row(const RowKernels& kernels, const GrpoLossArgs& a, const Cursor& c, bool entropy, const RowPowers* kept,
              RowResult* r) {
  TokenRecord* record = a.records + c.row();
  if (!record->selected) return clear_row(a, c), false;
  *r = forward_row(kernels, a.logits, c.in(a.logits), a.targets[c.row()], a.temperature, entropy, kept);
  if (!r->softmax.finite) {
    record->fault = Fault::logits;
    return clear_row(a, c), false;
  }
  write_outputs(a, c.row(), r->softmax);
  record->logp = r->softmax.logp;
  record->entropy = entropy ? r->softmax.entropy : 0.0;
  return true;
}

void write_gradient(const RowKernels& kernels, const GrpoLossArgs& a, const Cursor& c, const RowResult& r,
                    const RowPowers* kept, const void* next) {
  if (!a.grad.data) return;
  const TokenRecord& record = a.records[c.row()];
  gradient_row(kernels, a.logits, c.in(a.logits), a.grad, c.in(a.grad), a.targets[c.row()], a.temperature, r,
               record.slope, record.entropy_slope, kept, next);
}

Status first_fault(const TokenRecord* records, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i)
    if (records[i].fault != Fault::none) return {records[i].fault, i};
  return {};
}

Status in_one(const Context& context, const LossParams& p, const GrpoLossArgs& a, bool entropy) {
  const Layout& l = a.batch.layout;
  const RowKernels& kernels = row_kernels();
  const bool keep = a.grad.data && !a.batch.has_entropy_term();  // its gradient needs more than powers
  parallel_for(context, l.rows, chunk_rows(l.rows, a.logits.vocab), [&](int64_t begin, int64_t end) {
    const KeptPowers kept(context, kernels, a.logits, keep);
    for (Cursor c(l, begin); c.row() < end; c.next()) {
      RowResult r{};
      if (!read_row(kernels, a, c, entropy, kept.get(), &r)) continue;
      token_step(p, a.batch, c.row(), a.records + c.row());
      write_gradient(kernels, a, c, r, kept.get(), a.grad.data ? upcoming(c, a.logits, end) : nullptr);
    }
  });
  return first_fault(a.records, l.rows);
}

/// All log-probs, then all token losses, then all gradients: a second read of the logits, but no second sum over them.
/// Nothing of a gradient is written when a row is found faulty.
Status in_two_phases(const Context& context, const LossParams& p, const GrpoLossArgs& a, bool entropy) {
  const Layout& l = a.batch.layout;
  const RowKernels& kernels = row_kernels();
  const int64_t chunk = chunk_rows(l.rows, a.logits.vocab);
  GrpoLossArgs reading = a;
  reading.grad.data = nullptr;
  parallel_for(context, l.rows, chunk, [&](int64_t begin, int64_t end) {
    for (Cursor c(l, begin); c.row() < end; c.next()) {
      RowResult r{};
      if (read_row(kernels, reading, c, entropy, nullptr, &r)) a.records[c.row()].rest = r.rest;
    }
  });
  if (const Status s = first_fault(a.records, l.rows); !s.ok()) return s;
  policy_steps(context, p, a.batch, a.records);
  if (!a.grad.data) return {};
  parallel_for(context, l.rows, chunk, [&](int64_t begin, int64_t end) {
    for (Cursor c(l, begin); c.row() < end; c.next()) {
      if (!a.records[c.row()].selected) {
        zero_row(a.grad, c.in(a.grad));
        continue;
      }
      const RowResult r =
          row_result(a.logits, c.in(a.logits), a.targets[c.row()], a.temperature, a.records[c.row()].rest);
      write_gradient(kernels, a, c, r, nullptr, upcoming(c, a.logits, end));
    }
  });
  return {};
}

}  // namespace

Status grpo_loss(const Context& context, const LossParams& p, const GrpoLossArgs& a, PolicyMetrics* metrics) {
  const Layout& l = a.batch.layout;
  if (const Status s = check_targets(l, a.targets, a.logits.vocab); !s.ok()) return s;
  if (const Status s = prepare_tokens(p, a.batch, a.records); !s.ok()) return s;
  const bool entropy = a.want_entropy || a.entropies || a.batch.has_entropy_term() || has_entropy_mask(p);
  const Status status = two_phases(p, a.batch) ? in_two_phases(context, p, a, entropy) : in_one(context, p, a, entropy);
  *metrics = collect_metrics(l, a.records);
  return status;
}

}  // namespace fg::kernels
