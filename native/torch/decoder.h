#pragma once
// One decoding step for a set of sequences: embed, all layers over the caches, logits, the next token of each.
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/decode.h"
#include "torch/decode_layers.h"
#include "torch/generate.h"
#include "torch/stop_matcher.h"

namespace fg {

/// The keys and values of one prompt, shared by its completions.
struct PromptCache {
  at::Tensor k, v;  // (layers, kv_heads, dim, capacity), (layers, kv_heads, capacity, dim)
  CacheSegment segment;
};

struct Running {
  explicit Running(const std::vector<std::string>& stop) : matcher(stop) {}
  DecodeSequence cache;
  at::Tensor k, v;                      // own segment, as in PromptCache
  uint32_t prompt = 0, completion = 0;  // coordinates of the random numbers
  int64_t prompt_length = 0;
  std::vector<uint8_t> seen;  // (vocab), only with a repetition penalty
  StopMatcher matcher;
  Completion* out = nullptr;
  SampleRow row{};
  bool done = false;
};

class Decoder {
 public:
  Decoder(Transformer& model, const GenerateOptions& options);
  /// Draws one token for each of `rows` from logits (rows, vocab), records it and decides whether the sequence is done.
  void choose(const at::Tensor& logits, Running* const* sequences, int64_t rows);
  /// Feeds the last token of every sequence and chooses the next one; several times for a small model, where a sequence
  /// that is done stops.
  void advance(std::vector<Running*>& active);

 private:
  void step_rows(Running* const* sequences, int64_t rows);
  void step_together(Running* const* sequences, int64_t rows);
  void steps_alone(std::vector<Running*> mine) const;
  void step_alone(Running* const* sequences, int64_t rows, DecodeLayers::Workspace& w, char* sampling) const;
  void choose_one(const void* logits, DType dtype, Running& s, char* workspace) const;
  at::Tensor attend(int64_t layer, const at::Tensor& qkv, const DecodeSequence* const* sequences, int64_t rows,
                    const ops::RowMap& map);
  void accept(Running& s) const;

  Transformer& model_;
  const GenerateOptions& options_;
  bool alone_ = false;                                // each thread computes whole steps for its share of the sequences
  std::optional<DecodeLayers> layers_;                // none: weights that only libtorch's products take as they lie
  std::optional<DecodeLayers::Workspace> workspace_;  // of a team
};

/// Allocates an empty segment for `positions` positions.
CacheSegment allocate_segment(const Transformer& model, int64_t positions, at::Tensor& k, at::Tensor& v);
/// Bytes of one position of the cache, all layers.
int64_t cache_bytes_per_position(const Transformer& model);

}  // namespace fg
