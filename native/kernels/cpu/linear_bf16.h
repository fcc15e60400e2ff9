#pragma once
#include "kernels/linear.h"

namespace fg {

/// How bfloat16 numbers are multiplied: in pairs by AVX512_BF16, or by halves, widened to float32, by AVX-512.
enum class Bf16Way { none, pairs, halves };

bool can_multiply(Bf16Way);

/// The fastest on this machine; none without AVX-512 or where FUSED_GRPO_SIMD or use_simd() ask for an older set.
Bf16Way bf16_way();

/// linear_plain for bfloat16.
void linear_bf16(const Context&, const LinearPlainArgs&, int64_t outputs_per_task, Bf16Way);

}  // namespace fg
