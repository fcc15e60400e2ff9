#pragma once
// How kernels see memory: rows of logits with strides, and which rows belong to which sequence.
#include <cstddef>
#include <cstdint>

#include "math/scalar.h"  // FG_HD

namespace fg {

enum class DType : uint8_t { f32, bf16, f16 };

FG_HD inline constexpr int64_t size_of(DType t) { return t == DType::f32 ? 4 : 2; }

/// Rows of a matrix of logits or of their gradient. Strides are in elements. With sequence_stride 0 row r starts at
/// r * row_stride; otherwise row t of sequence s starts at s * sequence_stride + t * row_stride (padded views).
struct Rows {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t vocab = 0;
  int64_t row_stride = 0;
  int64_t sequence_stride = 0;

  FG_HD int64_t at(int64_t row, int64_t sequence, int64_t position) const {
    return sequence_stride == 0 ? row * row_stride : sequence * sequence_stride + position * row_stride;
  }
  FG_HD void* pointer(int64_t element) const { return static_cast<char*>(data) + element * size_of(dtype); }
};

/// B sequences of N rows in total: sequence s owns rows [offsets[s], offsets[s + 1]).
struct Layout {
  int64_t rows = 0;
  int64_t sequences = 0;
  const int32_t* offsets = nullptr;    // (sequences + 1); null: one sequence of all rows
  const uint8_t* mask = nullptr;       // (rows), null: every row is selected
  const uint8_t* truncated = nullptr;  // (sequences), null: none; rows of a sequence marked here are not selected
};

}  // namespace fg
