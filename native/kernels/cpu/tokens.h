#pragma once
// What policy_loss and grpo_loss share: which token counts how much, its loss and derivative, and the totals.
#include "kernels/kernels.h"

namespace fg::kernels {

/// Fills weight, sequence and selected of every record; the first token whose inputs are unusable is the result.
Status prepare_tokens(const LossParams&, const PolicyBatch&, TokenRecord* records);

/// The token's weighted loss and metrics go into the record; the result is d(total loss) / d(logp).
double token_step(const LossParams&, const PolicyBatch&, int64_t row, double logp, double entropy, TokenRecord* record);

/// Adds up in row order, whatever the number of threads was.
PolicyMetrics collect_metrics(const Layout&, const TokenRecord* records);

}  // namespace fg::kernels
