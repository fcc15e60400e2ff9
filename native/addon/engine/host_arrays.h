#pragma once
// What ops on tensors need of JavaScript's arrays while they run on their own thread.
#include <cstring>
#include <optional>
#include <vector>

#include "addon/common/loss_arguments.h"
#include "addon/engine/tensor.h"
#include "torch/dtype.h"

namespace fg {

/// Host arrays of a call: copies, since JavaScript may change or transfer its own while the op runs.
class HostArrays {
 public:
  template <class T>
  void keep(const T** array, int64_t count) {
    if (!*array) return;
    kept_.push_back(at::empty({count * int64_t(sizeof(T))}, at::TensorOptions(at::kByte)));
    if (count > 0) std::memcpy(kept_.back().data_ptr(), *array, size_t(count) * sizeof(T));
    *array = static_cast<const T*>(kept_.back().data_ptr());
  }
  void keep(kernels::PolicyBatch* b) {
    const Layout& l = b->layout;
    keep(&b->old_logps, l.rows), keep(&b->ref_logps, l.rows), keep(&b->sampler_logps, l.rows);
    keep(&b->advantages, b->advantages_per_token ? l.rows : l.sequences);
    keep(&b->layout);
  }
  void keep(Layout* l) {
    keep(&l->mask, l->rows);
    keep(&l->truncated, l->sequences);
    keep(&l->offsets, l->sequences + 1);
  }
  /// The matrix as the kernels see it; checks that its rows lie inside the tensor.
  Rows matrix(const Arguments& a, const Napi::Object& o, const char* name, const char* row_stride,
              const char* sequence_stride, const Layout& l) {
    const at::Tensor t = TensorHandle::tensor_of(o.Get(name), name);
    Rows r;
    r.dtype = DType(a.integer("dtype"));
    r.vocab = a.integer("vocab"), r.row_stride = a.integer(row_stride), r.sequence_stride = a.integer(sequence_stride);
    if (t.scalar_type() != scalar_type(r.dtype) || t.numel() < Arguments::extent_of(r, l))
      Arguments::fail(name, "a Tensor of the right dtype and size");
    if (device && *device != t.device()) Arguments::fail(name, "a Tensor on the logits' device");
    device = t.device();
    r.data = t.data_ptr();
    kept_.push_back(t);
    return r;
  }
  std::optional<c10::Device> device;  // of the matrices

 private:
  std::vector<at::Tensor> kept_;
};

inline Napi::Value to_array(Napi::Env env, const at::Tensor& t) {
  auto array = Napi::Float32Array::New(env, static_cast<size_t>(t.numel()));
  if (t.numel() > 0) std::memcpy(array.Data(), t.data_ptr(), t.nbytes());
  return array;
}

}  // namespace fg
