#pragma once
// A scalar head: value = hidden row . score.weight. In fp64 and in a fixed order, so that a row's value depends on the
// row alone, never on threads or on what is beside it.
#include <atomic>
#include <vector>

#include "torch/model/transformer.h"
#include "torch/packing.h"

namespace fg {

/// rows (N, hidden), weight (1, hidden) -> N values. Records no gradient.
std::vector<float> scalar_values(const at::Tensor& rows, const at::Tensor& weight);

/// Adds by_value^T rows to grad_weight (1, hidden) float32; returns by_value weight (N, hidden) in the rows' dtype.
at::Tensor scalar_gradients(const std::vector<float>& by_value, const at::Tensor& rows, const at::Tensor& weight,
                            at::Tensor grad_weight);

enum class ValuePositions {
  last,       // of each sequence, after its last token: (sequences)
  completion  // of the state in which each completion token is chosen: the row before it; (completion tokens)
};

/// Values without gradients; a prompt that several sequences share is computed once. Every sequence has a prompt of at
/// least one token. Throws CodedError: ERR_ABORTED, ERR_CONTEXT_LENGTH, ERR_NON_FINITE, ERR_MODEL.
std::vector<float> score_values(Transformer& model, std::vector<Sequence> inputs, ValuePositions positions,
                                int64_t token_budget, const std::atomic<bool>& abort);

}  // namespace fg
