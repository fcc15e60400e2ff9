#pragma once
// Whole matrices that live on the device alone, for `large` and `bench`.
#include "support.h"

namespace fg::check {

struct Buffer {
  void* p = nullptr;
  explicit Buffer(size_t bytes) { MUST(cudaMalloc(&p, bytes)); }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(p); }
  template <class T>
  T* as() const {
    return static_cast<T*>(p);
  }
};

Bytes pattern_of(DType dtype, int64_t rows, int64_t vocab);

/// rows x vocab of repeated random rows: row r is row r % `distinct` of the pattern.
void fill_matrix(void* to, const Bytes& pattern, int64_t rows, int64_t row_bytes);

/// A matrix with everything that grpo_loss needs, one sequence per 8 rows.
struct Problem {
  DType dtype;
  int64_t rows, vocab, sequences;
  Buffer logits, targets, old_logps, advantages, offsets, logps, workspace, outcome;

  Problem(DType t, int64_t n, int64_t v);
  int64_t row_bytes() const { return vocab * size_of(dtype); }
  /// In place, over the rows [first, first + count); a part is one sequence's.
  cuda::Launch grpo(int64_t first, int64_t count) const;
  cuda::Launch forward() const;
  /// Waits for what has been launched.
  cuda::Outcome read() const;

 private:
  Layout layout(int64_t first, int64_t count) const;
};

}  // namespace fg::check
