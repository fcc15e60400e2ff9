#include "addon/engine/tensor.h"

#include <cstring>

#include "addon/common/loss_arguments.h"
#include "addon/engine/convert.h"
#include "torch/cuda_context.h"
#include "torch/dtype.h"
#include "torch/error.h"

namespace fg {
namespace {

constexpr napi_type_tag kTensorTag = {0x8f0d5b6e4c2a4f11, 0xa3c91d7be6f02845};

struct TensorFormat {
  const char* name;
  at::ScalarType type;
  napi_typedarray_type array;  // what holds it in JavaScript
};
constexpr TensorFormat kFormats[] = {
    {"float32", at::kFloat, napi_float32_array},    {"float64", at::kDouble, napi_float64_array},
    {"bfloat16", at::kBFloat16, napi_uint16_array}, {"float16", at::kHalf, napi_uint16_array},
    {"int32", at::kInt, napi_int32_array},          {"uint8", at::kByte, napi_uint8_array},
};

const TensorFormat& format_named(const std::string& name) {
  for (const TensorFormat& f : kFormats)
    if (name == f.name) return f;
  throw bad_argument("dtype", "a known dtype");
}
const TensorFormat& format_of(const at::Tensor& t) {
  for (const TensorFormat& f : kFormats)
    if (t.scalar_type() == f.type) return f;
  throw bad_argument("tensor", "a known dtype");
}

c10::Device device_named(const std::string& name) {
  if (name == "cpu") return c10::kCPU;
  const CudaStatus& cuda = cuda_status();
  if (!cuda.usable)
    throw UserError(UserError::Kind::error, "ERR_NO_CUDA", "Device '" + name + "' cannot be used: " + cuda.reason);
  const int index = name == "cuda" ? 0 : std::stoi(name.substr(5));
  if (index >= int(cuda.gpus.size()))
    throw UserError(UserError::Kind::range, "ERR_INVALID_ARG",
                    "Expected a device from 'cuda:0' to 'cuda:" + std::to_string(cuda.gpus.size() - 1) +
                        "' for device but received '" + name + "'");
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

std::vector<int64_t> shape_of(const Napi::Value& value) {
  if (!value.IsArray()) throw bad_argument("shape", "an array of integers");
  const auto array = value.As<Napi::Array>();
  std::vector<int64_t> shape;
  for (uint32_t i = 0; i < array.Length(); ++i) shape.push_back(array.Get(i).ToNumber().Int64Value());
  return shape;
}

/// Where the elements lie, in an ArrayBuffer or a SharedArrayBuffer (which Napi::ArrayBuffer is not).
const void* bytes_of(const Napi::TypedArray& data) {
  void* bytes = nullptr;
  if (napi_get_typedarray_info(data.Env(), data, nullptr, nullptr, &bytes, nullptr, nullptr) != napi_ok)
    throw bad_argument("data", "a typed array");
  return bytes;
}

/// The data as a tensor of `wanted`: taken over bit for bit where the array holds that format, else rounded.
at::Tensor make(const Napi::TypedArray& data, const std::vector<int64_t>& shape, const TensorFormat& wanted) {
  const bool same = data.TypedArrayType() == wanted.array;
  if (!same && data.TypedArrayType() != napi_float32_array) throw bad_argument("data", "a typed array of the dtype");
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  if (count != static_cast<int64_t>(data.ElementLength())) throw bad_argument("data", "as many elements as the shape");
  at::Tensor t = at::empty(shape, at::TensorOptions(same ? wanted.type : at::kFloat));
  if (count > 0) std::memcpy(t.data_ptr(), bytes_of(data), t.nbytes());
  return same ? t : t.to(wanted.type);
}

}  // namespace

Napi::Function TensorHandle::define(Napi::Env env) {
  return DefineClass(env, "Tensor", {InstanceMethod("dispose", &TensorHandle::dispose)});
}

TensorHandle::TensorHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorHandle>(info) {
  try {
    const c10::Device device = device_named(string_of(info[3], "device"));
    const std::vector<int64_t> shape = shape_of(info[1]);
    const TensorFormat& format = format_named(string_of(info[2], "dtype"));
    if (info[0].IsNull())
      tensor_ = at::empty(shape, at::TensorOptions(format.type).device(device));
    else if (info[0].IsTypedArray())
      tensor_ = make(info[0].As<Napi::TypedArray>(), shape, format).to(device);
    else
      throw bad_argument("data", "a typed array");
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(info.Env(), std::current_exception());
  }
  bytes_ = tensor_.is_cpu() ? static_cast<int64_t>(tensor_.nbytes()) : 0;
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), bytes_);
  info.This().As<Napi::Object>().TypeTag(&kTensorTag);
}

TensorHandle::~TensorHandle() {
  if (bytes_) Napi::MemoryManagement::AdjustExternalMemory(Env(), -bytes_);
}

at::Tensor TensorHandle::tensor_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTensorTag)) throw bad_argument(name, "a Tensor");
  const at::Tensor& t = Unwrap(value.As<Napi::Object>())->tensor_;
  if (!t.defined()) throw UserError(UserError::Kind::error, "ERR_DISPOSED", "This Tensor was disposed");
  return t;
}

const char* TensorHandle::dtype_name(const at::Tensor& t) { return format_of(t).name; }

Napi::Value TensorHandle::dispose(const Napi::CallbackInfo& info) {
  tensor_.reset();  // an op under way keeps the memory
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -bytes_);
  bytes_ = 0;
  return info.Env().Undefined();
}

Napi::Function TensorOps::define(Napi::Env env) {
  return DefineClass(env, "TensorOps",
                     {
                         InstanceMethod("read", &TensorOps::read),
                         InstanceMethod("selectiveLogp", &TensorOps::selective_logp),
                         InstanceMethod("selectiveLogpBackward", &TensorOps::selective_logp_backward),
                         InstanceMethod("grpoLoss", &TensorOps::grpo_loss),
                         InstanceMethod("linearGrpoLoss", &TensorOps::linear_grpo_loss),
                         InstanceMethod("linearProducts", &TensorOps::linear_products),
                         InstanceMethod("allReduce", &TensorOps::all_reduce),
                         InstanceMethod("broadcast", &TensorOps::broadcast),
                     });
}

TensorOps::TensorOps(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TensorOps>(info), thread_(info.Env(), 0) {}

Napi::Value TensorOps::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [t = TensorHandle::tensor_of(info[0], "tensor")] {
      // a copy even of what lies on the CPU: the array is the caller's, and later ops may write the tensor
      at::Tensor host = t.is_cpu() ? t.clone() : t.cpu();
      return [host](Napi::Env env) -> Napi::Value {
        auto buffer = Napi::ArrayBuffer::New(env, host.nbytes());
        if (host.nbytes()) std::memcpy(buffer.Data(), host.data_ptr(), host.nbytes());
        napi_value array;
        if (napi_create_typedarray(env, format_of(host).array, static_cast<size_t>(host.numel()), buffer, 0, &array) !=
            napi_ok)
          throw Napi::Error::New(env);
        return {env, array};
      };
    });
  });
}

}  // namespace fg
