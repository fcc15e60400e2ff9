#pragma once
// The token part of the unfused reference: the formulas of native/math on tensors of the selected tokens. What the
// kernels sum over sequences is index_add here, and autograd differentiates it.
#include "math/policy_loss.h"
#include "torch/tensor_ops.h"

namespace fg {

/// Of n selected tokens, (n) each: fp64, rows and sequences int64. old undefined: on policy; ref, sampler, entropy may
/// be undefined.
struct UnfusedTokens {
  at::Tensor logp, entropy, old, ref, sampler, advantage;
  at::Tensor sequence;  // of each token
  int64_t sequences;
  at::Tensor row;  // of each token, in the batch
};

struct UnfusedTokenLoss {
  TokenLoss<at::Tensor> token;
  at::Tensor kept;  // bool: by the entropy mask
};

UnfusedTokenLoss unfused_token_loss(const LossParams&, const UnfusedTokens&);

}  // namespace fg
