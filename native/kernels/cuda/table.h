#pragma once
// Which kernel runs: by architecture, format and vocabulary, decided here and nowhere else.
//
//   gradient wanted?  device      vocabulary                     kernel
//   no                any         any                            rows_block, forward only
//   yes               sm_80-89    any                            rows_block, second read from L2
//   yes               sm_90+      up to 262,144                 rows_cluster: 1, 2, 4 or 8 blocks of 256 threads, the
//   row
//                                                                in registers; float32 above 131,072: 8 blocks of 512
//   yes               sm_90+      beyond, or a gradient whose    rows_block
//                                 rows lie at another alignment
//
// FUSED_GRPO_CUDA_KERNEL=block|cluster, or force_variant, overrides for tests; what cannot be done is not forced.
#include "kernels/cuda/rows.h"

namespace fg::cuda {

/// A cluster's shape for one row: `vectors` registers of 16 bytes in each thread.
struct ClusterChoice {
  int blocks = 0;  // 0: no cluster holds such a row
  int threads = 256;
  int vectors = 4;  // 4, 8, 12 or 16
  int slice = 0;    // 16-byte vectors of one block
};
ClusterChoice choose_cluster(DType dtype, int64_t vocab);

/// nullptr or "": as the table says.
void force_variant(const char* name);

}  // namespace fg::cuda
