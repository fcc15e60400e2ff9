#pragma once
#include "kernels/linear.h"

namespace fg {

/// Whether the machine multiplies pairs of bfloat16 numbers in one instruction (AVX512_BF16), and FUSED_GRPO_SIMD or
/// use_simd() do not ask for an older set.
bool multiplies_bf16_pairs();

/// Outputs [begin, end) of linear_plain, for bfloat16, where multiplies_bf16_pairs(): nothing is widened, and each pair
/// of products is added to a float32 sum. `scratch` is not used.
void linear_bf16_pairs(const LinearPlainArgs&, int64_t begin, int64_t end);

}  // namespace fg
