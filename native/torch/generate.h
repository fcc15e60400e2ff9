#pragma once
// Sampling of completions: prompts prefilled once per group, batched decoding with a cache, finished sequences leave
// the batch.
#include <atomic>
#include <string>
#include <vector>

#include "kernels/decode.h"
#include "torch/model/transformer.h"

namespace fg {

struct GenerateOptions {
  SampleParams sampling{1.0f, 0, 1.0f, 0.0f, 1.0f, 0, 0};
  int64_t completions = 1;  // per prompt
  int64_t max_new_tokens = 256;
  uint32_t prompt_offset = 0;     // number of the first prompt in the random numbers' coordinates
  std::vector<int32_t> eos;       // a completion ends with, and includes, any of these
  std::vector<std::string> stop;  // byte strings; a completion ends with the token that completes one
  const std::vector<std::string>* token_bytes = nullptr;  // bytes of every token; needed with `stop`
};

struct Completion {
  std::vector<int32_t> tokens;
  std::vector<float> logps;  // of each token, before penalty and truncation, at the temperature
  bool stopped = false;      // by an end token or a stop string; otherwise by length
  int64_t stop_at = -1;      // byte of the completion's tokens where the stop string begins, -1 without one
};

/// Completions of prompt i are [i * completions, (i + 1) * completions). What is drawn for (seed, step, prompt,
/// completion, token) does not depend on what else is in the batch. Throws CodedError: ERR_ABORTED, ERR_CONTEXT_LENGTH
/// (prompt + max_new_tokens does not fit the model's context), ERR_INVALID_ARG (empty prompt), ERR_NON_FINITE (naming
/// prompt, completion and token).
std::vector<Completion> generate(Transformer& model, const std::vector<std::vector<int32_t>>& prompts,
                                 const GenerateOptions& options, const std::atomic<bool>& abort);

}  // namespace fg
