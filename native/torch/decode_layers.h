#pragma once
// The layers of a decoding step without libtorch, whose dispatch, allocation and packing cost several times the
// arithmetic of few rows. Two ways: the weights packed, for a thread that computes whole steps alone (small models,
// which stay in its cache); or as they lie, for a team of threads that reads them once for all sequences.
#include <vector>

#include "kernels/decode.h"
#include "kernels/linear.h"
#include "torch/model/transformer.h"

namespace fg {

/// One product of the model.
struct DecodeLinear {
  at::Tensor weight, bias;     // as in Linear; bias undefined: none
  std::vector<float> storage;  // of the packed weight; empty: the weight is used as it lies
  const float* packed = nullptr;
  int64_t in = 0, out = 0;
};

/// Attention of layer `layer` for one new row of each of `rows` sequences; q, k, v and out are left to fill in.
DecodeAttentionArgs decode_attention_args(const Transformer& model, int64_t layer,
                                          const DecodeSequence* const* sequences, int64_t rows);

class DecodeLayers {
 public:
  static constexpr int64_t kMaxRows =
      64;  // of one pass: bounds the workspace; the weights are read once for all of them

  /// `packed`: packs the weights as they are now; serves while they do not change. Otherwise they must not be
  /// transposed, and a product with an adapter is a copy of its weight.
  DecodeLayers(Transformer& model, bool packed);

  /// The buffers of one thread, or of a team.
  struct Workspace {
    explicit Workspace(const DecodeLayers& layers);
    at::Tensor x, normed, wide, q, k, v, attended, logits;  // of the model's dtype
    std::vector<float> scratch;
    std::vector<int64_t> ids, positions;
  };

  /// Feeds ids[r] at positions[r] (of the workspace) of sequence r and returns the logits (rows, vocab). The caller has
  /// reserved the tables of rotations and advances the caches afterwards.
  /// Called by one thread, or by every member of a team.
  const void* run(Workspace& w, const DecodeSequence* const* sequences, int64_t rows) const;

 private:
  struct Layer {
    DecodeLinear qkv, out, up, down;
  };
  template <class T>
  void embed(Workspace& w, int64_t rows) const;
  void norm(const at::Tensor& x, const NormWeights& weights, at::Tensor& y, int64_t rows) const;
  void product(Workspace& w, const DecodeLinear& l, const at::Tensor& x, const at::Tensor* residual, at::Tensor& y,
               int64_t rows) const;
  /// x += l(input), with a norm between them where the architecture has one.
  void add_product(Workspace& w, const DecodeLinear& l, const at::Tensor& input, const NormWeights& post,
                   int64_t rows) const;
  void attend(Workspace& w, int64_t layer, const DecodeSequence* const* sequences, int64_t rows) const;

  Transformer& model_;
  const Context context_;
  std::vector<Layer> layers_;
  DecodeLinear head_;
};

}  // namespace fg
