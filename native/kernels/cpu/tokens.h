#pragma once
// What policy_loss and grpo_loss share: which token counts how much, its loss and derivative, and the totals.
#include "kernels/kernels.h"

namespace fg::kernels {

/// Fills weight, factor, sequence and selected of every record; the first token whose inputs are unusable is the
/// result.
Status prepare_tokens(const LossParams&, const PolicyBatch&, TokenRecord* records);

/// A selected token whose loss depends on no other: from the record's logp and entropy to its loss, slopes and metrics.
void token_step(const LossParams&, const PolicyBatch&, int64_t row, TokenRecord* record);

/// Where two_phases(): the same for all tokens, whose logp and entropy are known.
void sequence_steps(const Context&, const LossParams&, const PolicyBatch&, TokenRecord* records);

/// Sets `kept` and `chosen` of the selected records; the result is the number kept.
int64_t choose_tokens(const LossParams&, const PolicyBatch&, TokenRecord* records);

/// From records with logp and entropy to losses and slopes, either way.
void policy_steps(const Context&, const LossParams&, const PolicyBatch&, TokenRecord* records);

/// The token's advantage.
inline double advantage_of(const PolicyBatch& b, int64_t row, const TokenRecord& r) {
  return b.advantages[b.advantages_per_token ? row : r.sequence];
}
inline int64_t begin_of(const Layout& l, int64_t s) { return l.offsets ? l.offsets[s] : 0; }
inline int64_t end_of(const Layout& l, int64_t s) { return l.offsets ? l.offsets[s + 1] : l.rows; }
/// By the mask alone.
inline bool in_mask(const Layout& l, int64_t row) { return !l.mask || l.mask[row]; }

/// Adds up in row order, whatever the number of threads was.
PolicyMetrics collect_metrics(const Layout&, const TokenRecord* records);

}  // namespace fg::kernels
