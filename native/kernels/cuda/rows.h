#pragma once
// One launch over rows of logits: what it does with a row's statistics is data (RowTask::step), so that log-prob, its
// backward and the fused loss are the same kernels.
#include "kernels/cuda/workspace.h"

namespace fg::cuda {

enum class Step : uint8_t {
  log_prob,  // logps, lse, entropies; no gradient
  given,     // the gradient for grad_logps and grad_entropies
  policy,    // the policy loss of the token; its gradient where there is a gradient matrix
};

struct RowTask {
  Rows logits, grad;
  int64_t rows = 0, sequences = 0, segments = 0;
  Step step = Step::log_prob;
  bool entropy = false;              // the row's entropy is needed
  float temperature = 1, scale = 1;  // scale: log2(e) / temperature
  // given
  const float *grad_logps = nullptr, *grad_entropies = nullptr;
  // policy
  LossParams params;
  const float *old_logps = nullptr, *ref_logps = nullptr, *sampler_logps = nullptr, *advantages = nullptr;
  bool advantages_per_token = false;
  float entropy_weight = 0;
  // outputs, (rows), may be null
  float *logps = nullptr, *lse = nullptr, *entropies = nullptr;
  Outcome* outcome = nullptr;  // null: a launch before has written it
  Workspace workspace;
};

/// What policy_loss and grpo_loss ask of both launches.
inline void set_policy(const LossParams& params, const kernels::PolicyBatch& b, PrepareTask* p, RowTask* t) {
  p->layout = b.layout;
  p->weights = true;
  p->params = params;
  p->corrects = params.sampler != SamplerCorrection::none && !kernels::two_phases(params, b);
  p->normalizer = b.normalizer;
  p->token_weights = b.weights;
  p->old_logps = t->old_logps = b.old_logps;
  p->ref_logps = t->ref_logps = params.beta != 0 ? b.ref_logps : nullptr;
  p->sampler_logps = t->sampler_logps = b.sampler_logps;
  p->advantages = t->advantages = b.advantages;
  p->advantages_per_token = t->advantages_per_token = b.advantages_per_token;
  t->rows = b.layout.rows;
  t->sequences = b.layout.sequences;
  t->step = Step::policy;
  t->params = params;
  t->entropy_weight = float(b.entropy_weight);
}

/// Token-sized arrays of an op with two phases; entropies and grad_entropies may be null.
struct TokenArrays {
  const float *logps, *entropies;
  float *grad_logps, *grad_entropies;
};

/// A statistic of the batch decides something; otherwise the parameters do.
inline bool needs_choice(const LossParams& p, double entropy_coef) {
  return p.top_entropy_quantile < 1 || entropy_coef != 0 || chooses_by_covariance(p.loss_type);
}
/// Where two_phases(): what statistics of the batch choose (workspace.choice, workspace.chosen), if any.
Launch choose_tokens(void* stream, const RowTask&, const TokenArrays&, double entropy_coef);
/// After it: losses, outcome and derivatives of every token.
Launch sequence_steps(void* stream, const RowTask&, const Layout&, const TokenArrays&, double entropy_coef);

/// Queues the kernel that the table (table.h) names for this device, format and vocabulary.
Launch launch_rows(void* stream, const RowTask&);

// The kernels, by file.
Launch launch_rows_block(void* stream, const RowTask&, const Device&);
struct ClusterChoice;
Launch launch_rows_cluster(void* stream, const RowTask&, const Device&, const ClusterChoice&);

}  // namespace fg::cuda
