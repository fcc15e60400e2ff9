#pragma once
// Log-probs and entropies of given completions under the model.
#include <atomic>
#include <vector>

#include "torch/model/transformer.h"
#include "torch/packing.h"

namespace fg {

struct ScoreOptions {
  double temperature = 1;  // logits are divided by it; greater than 0
  bool entropy = false;
  int64_t token_budget = 4096;  // rows of one forward pass (a shared prompt's once); logits exist only in part (below)
};
struct ScoreResult {
  std::vector<float> logps,
      entropies;  // of all completion tokens end to end; entropies in nats, empty unless asked for
};

/// logp[t] = log softmax(logits of the row before token t / temperature)[token t]. Only completion rows go through the
/// head, at most 64 MB of logits at a time. Throws CodedError: ERR_ABORTED, ERR_CONTEXT_LENGTH, ERR_NON_FINITE.
ScoreResult score_completions(Transformer& model, const std::vector<Sequence>& inputs, const ScoreOptions& options,
                              const std::atomic<bool>& abort);

/// Mean negative log-likelihood of the next tokens and its gradient by parameter and adapter (float32), leaving `.grad`
/// alone: for checking a model against another implementation. The parameters must be trainable.
struct NllGradients {
  double loss;
  NamedTensors gradients;
};
NllGradients nll_gradients(Transformer& model, const std::vector<int32_t>& tokens, const std::vector<int64_t>& offsets);

}  // namespace fg
