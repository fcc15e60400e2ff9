#pragma once
// The kernels of one decoding step: attention of one query per sequence over its own cache, and the choice of the next
// token.
#include "kernels/context.h"
#include "kernels/scalar.h"
#include "kernels/view.h"

namespace fg {

constexpr int64_t kCacheBlock = 64;  // capacities are multiples of it

/// The keys and values of a run of positions. Keys lie transposed, (layers, kv_heads, dim, capacity), so that scores of
/// neighbouring positions are computed together; values (layers, kv_heads, capacity, dim).
struct CacheSegment {
  void* k = nullptr;
  void* v = nullptr;
  int64_t length = 0, capacity = 0;
};

/// One sequence: the prompt's segment (shared by the completions of a group, only read) and its own.
struct DecodeSequence {
  CacheSegment prompt, own;
};

struct DecodeAttentionArgs {
  const DecodeSequence* const* sequences;  // (rows)
  const void *q, *k, *v;  // (rows, heads * dim), (rows, kv_heads * dim) twice: of the new position, rotated
  void* out;              // (rows, heads * dim)
  int64_t rows, layer, heads, kv_heads, dim;  // dim at most 1024
  int64_t window;                             // attends to that many last positions; 0: to all
  float scale;
  DType dtype;  // f32 or bf16, of all of it, caches included; arithmetic is float32
};
/// Stores k and v at position own.length of each sequence's own segment (which must have room; the caller advances
/// own.length after the last layer), then out = softmax(scale q K) V over the sequence's positions, the new one
/// included.
void decode_attention(const Context&, const DecodeAttentionArgs&);

struct SampleParams {
  float temperature;         // 0: the most likely token (the first of equals); log-probs are then at temperature 1
  int64_t top_k;             // 0: off. Ties with the k-th are kept, as in transformers
  float top_p;               // 1: off
  float min_p;               // 0: off
  float repetition_penalty;  // 1: off
  uint64_t seed;
  uint32_t step;
};
enum class SampleStatus : int32_t { ok, not_finite };
struct SampleRow {
  uint32_t prompt, completion, token;  // with seed and step: the random number's coordinates
  const uint8_t* seen;  // (vocab) 1 for tokens of the prompt and the completion; only read with a repetition penalty
  int32_t chosen;       // out
  float logp;           // out: under softmax(logits / temperature), before penalty and truncation
  SampleStatus status;  // out: not_finite for a NaN, a +inf or no finite logit; `chosen` is then -1
};
/// Bytes of scratch for one row.
int64_t sample_workspace(int64_t vocab);
/// One row of logits (vocab), repetition penalty -> temperature -> top-k -> top-p -> min-p -> draw, the order of
/// transformers.
void sample_row(const void* logits, int64_t vocab, DType dtype, const SampleParams& params, SampleRow& row,
                void* workspace);

}  // namespace fg
