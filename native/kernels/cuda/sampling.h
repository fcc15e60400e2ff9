#pragma once
// Choosing the next tokens on the device: what sample_row (kernels/decode.h) does, one block per row of logits.
#include "kernels/context.h"
#include "kernels/cuda/launch.h"
#include "kernels/decode.h"
#include "kernels/view.h"

namespace fg::cuda {

/// With seed and step of SampleParams: what a row's random number is made of.
struct SampleCoordinates {
  uint32_t prompt, completion, token;
};

/// All pointers are device pointers; logits need only the alignment of their element.
struct SampleArgs {
  const void* logits = nullptr;  // (rows, vocab); only read
  DType dtype = DType::f32;
  int64_t rows = 0;                                // below 2^31
  int64_t vocab = 0;                               // below 2^30
  int64_t row_stride = 0;                          // elements
  SampleParams params;                             // min_p above 1 counts as 1
  const SampleCoordinates* coordinates = nullptr;  // (rows)
  const uint8_t* seen = nullptr;   // (rows, vocab): 1 for tokens of prompt and completion; null: no repetition penalty
  int32_t* chosen = nullptr;       // (rows) out; -1 where the status is not ok
  float* logp = nullptr;           // (rows) out: under softmax(logits / temperature); NaN where the status is not ok
  SampleStatus* status = nullptr;  // (rows) out: not_finite for a NaN, a +inf or no finite logit
};
/// The same tokens as sample_row's, except where the random number lies within rounding of the boundary between two
/// tokens; and logits that differ are never ties, where the CPU compares rounded weights. The same bits from run to
/// run, whatever the other rows are.
Launch sample(const Context&, const SampleArgs&);

}  // namespace fg::cuda
