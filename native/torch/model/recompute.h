#pragma once
// Gradient checkpointing (Chen et al., arXiv 1604.06174): of a piece of the forward pass only its input is kept; the
// backward pass computes the piece again.
#include <functional>

#include "torch/torch_min.h"

namespace fg::ops {

/// fn(x), differentiable in x (when it requires a gradient) and in the leaves that fn reads, whose gradients arrive in
/// their `.grad`: for torch::autograd::backward, not for torch::autograd::grad. `fn` runs a second time during backward
/// and must then compute the same bits; what it captures lives as long as the graph.
at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> fn);

}  // namespace fg::ops
