#pragma once
// LoRA (Hu et al., arXiv 2106.09685): a product x W^T gains scale (x A^T) B^T, where A and B are small and W is frozen.
#include <string>
#include <vector>

#include "torch/torch_min.h"

namespace fg {

/// The adapter of one part of a (joint) product: it adds to the outputs [begin, begin + rows of b).
struct LowRankPart {
  std::string module;  // as in Linear::modules
  int64_t begin;
  at::Tensor a, b;  // (r, in), (out, r): float32 leaves, whatever the model's dtype
};

struct LowRank {
  std::vector<LowRankPart> parts;
  at::Tensor joint_a;  // (parts r, in): the parts' `a` are its slices, so that one product serves them all
  double scale = 1;    // alpha / r, or alpha / sqrt(r)
};

namespace ops {

/// y (rows, out of the product) plus what the adapter makes of x (rows, in). `y` must be a fresh result that nobody
/// else reads: it is changed in place. Differentiable in y, x and the leaves.
at::Tensor add_low_rank(const at::Tensor& y, const at::Tensor& x, const LowRank& low_rank);

/// A copy of the product's weight ((out, in), or (in, out) when transposed) with the adapter in it, computed in float32
/// and rounded once to `dtype`. Records no gradient.
at::Tensor merged_weight(const at::Tensor& weight, bool transposed, const LowRank& low_rank, at::ScalarType dtype);

}  // namespace ops
}  // namespace fg
