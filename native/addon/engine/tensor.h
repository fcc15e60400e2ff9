#pragma once
// Tensors in JavaScript's hands, and the functional ops on them (lib/engine/tensor.ts). One thread per environment runs
// the ops in the order in which they were called.
#include "addon/engine/owner_thread.h"
#include "torch/torch_min.h"

namespace fg {

/// A contiguous tensor on the CPU or a GPU.
class TensorHandle : public Napi::ObjectWrap<TensorHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  /// new Tensor(data: typed array | null, shape: number[], dtype: string, device: string): copies the data; null:
  /// leaves the elements as they come.
  explicit TensorHandle(const Napi::CallbackInfo& info);
  ~TensorHandle() override;

  /// The tensor of a value that must be such a handle; throws ERR_DISPOSED after dispose().
  static at::Tensor tensor_of(const Napi::Value& value, const std::string& name);
  /// As in JavaScript: float32, bfloat16, ...
  static const char* dtype_name(const at::Tensor& t);

 private:
  Napi::Value dispose(const Napi::CallbackInfo& info);
  at::Tensor tensor_;
  int64_t bytes_ = 0;
};

/// new TensorOps(): each method returns { promise, abort }.
class TensorOps : public Napi::ObjectWrap<TensorOps> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit TensorOps(const Napi::CallbackInfo& info);

 private:
  Napi::Value read(const Napi::CallbackInfo& info);                     // (tensor) -> typed array
  Napi::Value selective_logp(const Napi::CallbackInfo& info);           // the core's arguments, logits: Tensor
  Napi::Value selective_logp_backward(const Napi::CallbackInfo& info);  // also gradLogits: Tensor
  Napi::Value grpo_loss(const Napi::CallbackInfo& info);                // advantages are given
  Napi::Value linear_products(const Napi::CallbackInfo& info);
  Napi::Value linear_grpo_loss(const Napi::CallbackInfo& info);  // hidden, weight: Tensor (linear_loss.cc)
  Napi::Value all_reduce(const Napi::CallbackInfo& info);        // (Group, Tensor[], mean: boolean) (exchange.cc)
  Napi::Value broadcast(const Napi::CallbackInfo& info);         // (Group, Tensor[], root)
  template <class Fn>
  Napi::Value submit(const Napi::CallbackInfo& info, Fn work) {
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(),
                          [work = std::move(work)](const std::atomic<bool>&) { return Deliver(work()); });
  }

  OwnerThread thread_;
};

}  // namespace fg
