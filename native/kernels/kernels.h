#pragma once
// The list of ops, once. Raw memory in, raw memory out; nothing here allocates or owns threads. Scratch is the
// caller's: ask <op>_workspace(). Targets and offsets are int32, masks uint8, statistics fp64; log-probs, entropies,
// advantages fp32. Unselected rows (mask, truncated) are never read; their log-prob, entropy and gradient are written
// as 0.
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/adamw.h"
#include "kernels/context.h"
#include "kernels/view.h"
#include "math/advantage.h"
#include "math/loss_params.h"
#include "math/softmax.h"

namespace fg::kernels {

/// What is wrong with a row. Kernels name the first bad row; what they wrote for it is 0.
enum class Fault : uint8_t {
  none,
  target,
  old_logp,
  ref_logp,
  sampler_logp,
  advantage,
  logp,
  entropy,
  logits,
  reward,
  token_reward,
  value,
  old_value,
  return_value,
  last_value,
  chosen_reward,
  rejected_reward,
  margin,
  binary_reward,
  step_reward,
  function_reward
};

struct Status {
  Fault fault = Fault::none;
  int64_t row = -1;
  bool ok() const { return fault == Fault::none; }
};

/// One token's part of the step: scratch of grpo_loss and policy_loss that the caller may read afterwards.
struct TokenRecord {
  double weight;         // of this token's loss in the total (0: not selected)
  double factor;         // of its surrogate: masks and corrections
  double loss;           // weighted: the step's loss is the sum over tokens
  double logp, entropy;  // of the current policy
  double slope;          // d(total loss) / d(logp)
  double entropy_slope;  // d(total loss) / d(entropy)
  RestSums rest;         // of the row, where its gradient is formed in a second pass
  float kl, ratio;
  int32_t sequence;
  Fault fault;
  bool selected;
  bool kept;    // by the entropy mask
  bool chosen;  // by the covariance
  bool clipped_low, clipped_high;
};

/// Sums over selected tokens. Micro-batches are merged in order and divided once, in the end.
struct PolicyMetrics {
  double loss = 0;  // with weights: of micro-batches given one normalizer, the sum is the step's loss
  double kl = 0, entropy = 0, ratio = 0;
  double ratio_min = std::numeric_limits<double>::infinity();
  double ratio_max = -std::numeric_limits<double>::infinity();
  int64_t tokens = 0, sequences = 0, clipped_low = 0, clipped_high = 0;

  void merge(const PolicyMetrics& o) {
    loss += o.loss, kl += o.kl, entropy += o.entropy, ratio += o.ratio;
    ratio_min = o.ratio_min < ratio_min ? o.ratio_min : ratio_min;
    ratio_max = o.ratio_max > ratio_max ? o.ratio_max : ratio_max;
    tokens += o.tokens, sequences += o.sequences, clipped_low += o.clipped_low, clipped_high += o.clipped_high;
  }
};

/// What policy_loss and grpo_loss share: everything token-sized.
struct PolicyBatch {
  Layout layout;
  const float* old_logps = nullptr;  // (rows); null: on policy, the ratio is 1 with its derivative
  const float* ref_logps = nullptr;  // (rows); needed iff beta is not 0, never read otherwise
  const float* sampler_logps =
      nullptr;  // (rows), NaN: unknown; of the engine that sampled, for params.sampler and the off-policy mask
  const float* advantages = nullptr;
  bool advantages_per_token = false;  // (rows) rather than (sequences)
  const float* weights = nullptr;     // (rows), of each token's loss in the total; null: by loss type and normalizer
  double normalizer = 1;              // of the whole optimizer step, in the unit of counted_by(loss_type)
  double entropy_weight = 0;          // entropyCoef / (tokens of the whole step): loss -= entropy_weight * entropy
  double entropy_coef = 0;  // not 0: the entropy's weight is this / (the tokens that the entropy mask keeps here)
  bool has_entropy_term() const { return entropy_weight != 0 || entropy_coef != 0; }
};

// --- group_advantages: rewards of groups -> advantages. Serial; see math/advantage.h for the options. ---
using fg::AdvantageOptions;

/// `group_offsets` (groups + 1) int32; scratch of group_advantages_workspace(n) bytes. Outputs mean, std, zero_std
/// (groups) may be null. fault `reward` names the first reward that is not finite (options.exclude_non_finite off).
Status group_advantages(const double* rewards, int64_t n, const int32_t* group_offsets, int64_t groups,
                        const AdvantageOptions& options, float* advantages, float* mean, float* std, uint8_t* zero_std,
                        void* workspace);
size_t group_advantages_workspace(int64_t n);

// --- selective_logp: logits -> log-prob of the target, log-sum-exp, entropy (of logits / temperature). ---
struct SelectiveLogpArgs {
  Layout layout;
  Rows logits;
  const int32_t* targets = nullptr;  // (rows)
  double temperature = 1;
  float* logps = nullptr;      // (rows)
  float* lse = nullptr;        // (rows), may be null
  float* entropies = nullptr;  // (rows), null: not wanted
  Fault* faults = nullptr;     // scratch: (rows)
};
Status selective_logp(const Context&, const SelectiveLogpArgs&);

/// Gradient of sum(grad_logps * logps + grad_entropies * entropies) by the logits; `grad` may be the logits' own
/// memory. The row is in cache while it is worked on, so the CPU recomputes its statistics and needs no saved lse.
struct SelectiveLogpBackwardArgs {
  Layout layout;
  Rows logits, grad;
  const int32_t* targets = nullptr;
  double temperature = 1;
  const float* grad_logps = nullptr;      // (rows)
  const float* grad_entropies = nullptr;  // (rows), may be null
  Fault* faults = nullptr;                // scratch: (rows)
};
Status selective_logp_backward(const Context&, const SelectiveLogpBackwardArgs&);

// --- policy_loss: log-probs -> loss and its derivative by them. ---
struct PolicyLossArgs {
  PolicyBatch batch;
  const float* logps = nullptr;      // (rows)
  const float* entropies = nullptr;  // (rows); needed iff there is an entropy term or mask, else only for the metric
  float* grad_logps = nullptr;       // (rows)
  float* grad_entropies = nullptr;   // (rows), may be null
  TokenRecord* records = nullptr;    // (rows)
};
Status policy_loss(const Context&, const LossParams&, const PolicyLossArgs&, PolicyMetrics* metrics);

// --- grpo_loss: logits -> loss, metrics and the gradient of the logits, in one read and one write (two reads where
// two_phases()). ---
struct GrpoLossArgs {
  PolicyBatch batch;
  Rows logits;
  Rows grad;  // null data: loss and metrics only; the logits' data: in place (the logits are lost, after a fault too)
  const int32_t* targets = nullptr;
  double temperature = 1;
  float* logps = nullptr;          // (rows)
  float* lse = nullptr;            // (rows), may be null
  float* entropies = nullptr;      // (rows), may be null
  bool want_entropy = false;       // metrics->entropy, also without `entropies`
  TokenRecord* records = nullptr;  // (rows): grpo_loss_workspace(rows) bytes
};
/// Faults of targets, log-probs and advantages are found before anything is written. `metrics` is overwritten; merge().
Status grpo_loss(const Context&, const LossParams&, const GrpoLossArgs&, PolicyMetrics* metrics);
inline size_t grpo_loss_workspace(int64_t rows) { return size_t(rows) * sizeof(TokenRecord); }

/// The loss of a token needs what other tokens' current log-probs or entropies are: they are computed first.
inline bool two_phases(const LossParams& p, const PolicyBatch& b) {
  return needs_sequences(p, b.old_logps == nullptr) || (has_entropy_mask(p) && b.entropy_coef != 0);
}

/// What `normalizer` is when the caller gives none: counted on this batch alone (at least 1).
double default_normalizer(LossType type, const Layout& layout, double max_completion_length, bool exclude_empty);
/// Selected tokens: the default of the entropy normaliser.
int64_t selected_tokens(const Layout& layout);

/// What the step is divided by, as the caller says; 0: not given.
struct Normalizers {
  double normalizer = 0;
  double max_completion_length = 0;  // of dr_grpo without a normalizer
  bool exclude_empty = false;        // sequences without a selected token
  double entropy_coef = 0;
  double entropy_normalizer = 0;
};
/// Sets the batch's normalizer and the weight of its entropy: given, or counted on this batch alone.
void set_normalizers(const Normalizers&, const LossParams&, PolicyBatch*);

/// The instruction set in use: 'avx512', 'avx2', 'neon' or 'portable' (FUSED_GRPO_SIMD overrides, for tests).
const char* simd();
/// Switches to another one (tests); false if this machine does not have it.
bool use_simd(const char* name);

}  // namespace fg::kernels
