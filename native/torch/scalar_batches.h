#pragma once
// What models with a scalar head are trained on: preference pairs (a reward model), or the values of tokens (a critic).
#include <cstdint>
#include <vector>

#include "kernels/value_ops.h"

namespace fg {

/// P pairs of whole sequences; a pair's common beginning is computed once.
struct PairBatch {
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets;  // (2 P + 1): chosen, rejected, chosen, ...; each sequence has at least one token
  std::vector<float> margins;    // (P) or empty

  int64_t pairs() const { return static_cast<int64_t>(offsets.size()) / 2; }
};
struct PairOptions {
  double center_coefficient = 0;
  double normalizer = 1;           // pairs of the whole optimizer step
  int64_t micro_batch_tokens = 0;  // 0: about 1.5 GB of activations
};
struct PairResult {
  kernels::Totals totals;
  std::vector<float> chosen, rejected;  // (P) scores before the step
};

/// B sequences, each prompt then completion; N completion tokens in total.
struct ValueBatch {
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets;         // (B + 1)
  std::vector<int32_t> prompt_lengths;  // (B), at least 1 each
  std::vector<float> returns;           // (N)
  std::vector<float> old_values;        // (N); not read when nothing is clipped
  std::vector<uint8_t> mask;            // (N) or empty: all selected
};
struct ValueOptions {
  double clip = kUnbounded;
  double normalizer = 1;           // tokens of the whole optimizer step
  int64_t micro_batch_tokens = 0;  // 0: about 1.5 GB of activations
};
struct ValueResult {
  kernels::Totals totals;
  std::vector<float> values;  // (N): of the state in which each token is chosen, before the step
  // Sums over selected tokens; error = return - value.
  double value = 0, target = 0, target_square = 0, error = 0, error_square = 0;
};

}  // namespace fg
