#pragma once
// The model's kernels as differentiable operations on CPU tensors. Under no-grad they run without recording anything.
#include <optional>
#include <tuple>
#include <vector>

#include "kernels/attention.h"
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

/// What the rows of a batch are.
struct RowMap {
  at::Tensor positions;  // (rows) int64: of each row in its sequence
  at::Tensor segments;   // (segments, 3) int64: as fg::Segment; undefined in decoding, where a row is a sequence
  int64_t longest = 0;   // largest position + 1
};
RowMap row_map(const std::vector<int64_t>& positions, const std::vector<Segment>& segments);

struct HeadParams {
  int64_t heads, kv_heads, dim;
  double eps, weight_offset;
};
/// Joint rows (rows, (heads + 2 kv_heads) dim) -> q (rows, heads dim), k and v (rows, kv_heads dim), q and k normalised
/// per head (when q_norm is defined) and rotated (when `rope` is given).
std::tuple<at::Tensor, at::Tensor, at::Tensor> split_heads(const at::Tensor& qkv, const at::Tensor& q_norm,
                                                           const at::Tensor& k_norm, const RowMap& rows,
                                                           const HeadParams& params, const RopeTable* rope);

struct AttentionParams {
  int64_t window;  // attends to that many last positions, itself included; 0: to all
  double scale;
};
/// Causal attention within the segments of `rows`: (rows, heads dim).
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const RowMap& rows,
                     const HeadParams& heads, const AttentionParams& params);

/// x W^T, plus `residual` (rows, out) when defined; weight (out, in).
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& residual);
/// Whether this machine's products of bfloat16 are faster than those of float32: with AMX, and on AMD's processors with
/// AVX512_BF16. On others (Intel's AVX512_BF16 included) they were measured at half the speed.
bool fast_bfloat16();

/// gated: (rows, 2 width) -> act(left half) * right half; else act(x).
at::Tensor activate(const at::Tensor& x, Activation activation, bool gated);

/// The tensors of `parts` (leaves that are consecutive slices of `whole` along dimension 0) as one tensor, without
/// copying; the gradient goes back to the parts as slices of one tensor.
at::Tensor join(const std::vector<at::Tensor>& parts, const at::Tensor& whole);

}  // namespace fg::ops
