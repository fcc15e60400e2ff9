#pragma once
// The model's kernels as differentiable operations on CPU tensors. Under no-grad they run without recording anything.
#include <optional>
#include <tuple>
#include <vector>

#include "torch/model/rope.h"
#include "torch/torch_min.h"

namespace fg::ops {

struct NormParams {
  double eps;
  double weight_offset;  // 1 for Gemma
  bool center;           // LayerNorm
};
/// x (rows, width) -> (rows, width). `bias` may be undefined.
at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const NormParams& params);

/// Which row of a batch stands where. Dense: every sequence has `length` rows, row = sequence * length + position.
struct RowMap {
  int64_t sequences = 0, length = 0;
  at::Tensor positions, slots;  // (rows) int64, only when ragged: position, and sequence * length + position
};

struct HeadParams {
  int64_t heads, kv_heads, dim;
  double eps, weight_offset;
};
/// Joint rows (rows, (heads + 2 kv_heads) dim) -> q (B, T, heads, dim), k and v (B, T, kv_heads, dim), q and k
/// normalised per head (when q_norm is defined) and rotated (when `rope` is given). Slots without a row are zero.
std::tuple<at::Tensor, at::Tensor, at::Tensor> split_heads(const at::Tensor& qkv, const at::Tensor& q_norm,
                                                           const at::Tensor& k_norm, const RowMap& rows,
                                                           const HeadParams& params, const RopeTable* rope);

/// gated: (rows, 2 width) -> act(left half) * right half; else act(x).
at::Tensor activate(const at::Tensor& x, Activation activation, bool gated);

/// The tensors of `parts` (leaves that are consecutive slices of `whole` along dimension 0) as one tensor, without
/// copying; the gradient goes back to the parts as slices of one tensor.
at::Tensor join(const std::vector<at::Tensor>& parts, const at::Tensor& whole);

}  // namespace fg::ops
