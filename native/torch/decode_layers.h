#pragma once
// The layers of a decoding step for small models, on the calling thread and without libtorch: there the products are so
// small that dispatch, allocation and packing cost several times the arithmetic.
#include <vector>

#include "kernels/decode.h"
#include "kernels/linear.h"
#include "torch/model/transformer.h"

namespace fg {

/// One packed product of the model.
struct PackedLinear {
  std::vector<float> storage;
  const float* packed = nullptr;
  at::Tensor bias;  // undefined: none
  int64_t in = 0, out = 0;
};

class DecodeLayers {
 public:
  static constexpr int64_t kMaxRows =
      64;  // of one pass: bounds the workspace; the weights are read once for all of them

  /// Packs the weights as they are now. Serves while they do not change.
  explicit DecodeLayers(Transformer& model);

  /// The buffers of one thread.
  struct Workspace {
    explicit Workspace(const DecodeLayers& layers);
    at::Tensor x, normed, wide, q, k, v, attended, logits;  // of the model's dtype
    std::vector<float> scratch;
    std::vector<int64_t> ids, positions;
  };

  /// Feeds ids[r] at positions[r] (of the workspace) of sequence r and returns the logits (rows, vocab). The caller has
  /// reserved the tables of rotations and advances the caches afterwards.
  const void* run(Workspace& w, const DecodeSequence* const* sequences, int64_t rows) const;

 private:
  struct Layer {
    PackedLinear qkv, out, up, down;
  };
  template <class T>
  void embed(Workspace& w, int64_t rows) const;
  void norm(const at::Tensor& x, const NormWeights& weights, at::Tensor& y, int64_t rows) const;
  void product(Workspace& w, const PackedLinear& l, const at::Tensor& x, const at::Tensor* residual, at::Tensor& y,
               int64_t rows) const;
  /// x += l(input), with a norm between them where the architecture has one.
  void add_product(Workspace& w, const PackedLinear& l, const at::Tensor& input, const NormWeights& post,
                   int64_t rows) const;
  void attend(Workspace& w, int64_t layer, const DecodeSequence* const* sequences, int64_t rows) const;

  Transformer& model_;
  std::vector<Layer> layers_;
  PackedLinear head_;
};

}  // namespace fg
