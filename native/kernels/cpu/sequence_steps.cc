// The policy loss where a token depends on others: sequence sums, then each token with what its sequence shares.
#include <limits>

#include "kernels/cpu/tokens.h"
#include "math/sequence_sums.h"

namespace fg::kernels {
namespace {

TokenValues<double> values_of(const PolicyBatch& b, int64_t row, const TokenRecord& r) {
  const double old = b.old_logps ? b.old_logps[row] : r.logp;
  const double sampler = b.sampler_logps ? b.sampler_logps[row] : std::numeric_limits<double>::quiet_NaN();
  return {b.old_logps ? r.logp - old : 0.0, r.logp, old, sampler, advantage_of(b, row, r), r.kept};
}

void sequence_step(const LossParams& p, const PolicyBatch& b, double entropy_weight, int64_t s, TokenRecord* records) {
  const int64_t begin = begin_of(b.layout, s), end = end_of(b.layout, s);
  SequenceSums sums;
  for (int64_t row = begin; row < end; ++row)
    if (records[row].selected) sums.add(sequence_term(p, b.sampler_logps != nullptr, values_of(b, row, records[row])));
  const SequenceValues<double> sequence = sequence_values<double>(p, sums);
  double shared = 0;
  for (int64_t row = begin; row < end; ++row) {
    TokenRecord& r = records[row];
    if (!r.selected) continue;
    const TokenValues<double> v = values_of(b, row, r);
    r.factor = token_factor(p, sequence, v);
    const double ref = p.beta != 0 ? b.ref_logps[row] : 0.0;
    const SequenceSlopes<double> t = sequence_token_loss(p, sequence, v, ref, r.factor, r.chosen);
    r.entropy_slope = r.kept ? -entropy_weight : 0.0;
    r.loss = r.weight * t.token.loss.value + r.entropy_slope * r.entropy;
    r.slope = r.weight * t.token.loss.slope;
    shared += r.weight * t.shared;
    r.kl = float(t.token.kl.value), r.ratio = float(t.token.ratio.value);
    r.clipped_low = t.token.clipped_low, r.clipped_high = t.token.clipped_high;
  }
  for (int64_t row = begin; row < end && shared != 0; ++row)
    if (records[row].selected) records[row].slope += shared * shared_part(p, sequence, values_of(b, row, records[row]));
}

}  // namespace

void sequence_steps(const Context& context, const LossParams& p, const PolicyBatch& b, TokenRecord* records) {
  const int64_t kept = choose_tokens(p, b, records);
  const double weight = b.entropy_coef != 0 ? b.entropy_coef / double(kept > 1 ? kept : 1) : b.entropy_weight;
  const int64_t per_piece = b.layout.sequences > 0 ? 4096 * b.layout.sequences / (b.layout.rows + 1) + 1 : 1;
  parallel_for(context, b.layout.sequences, per_piece, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) sequence_step(p, b, weight, s, records);
  });
}

}  // namespace fg::kernels
