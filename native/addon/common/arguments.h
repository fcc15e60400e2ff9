#pragma once
// Reading the flat argument objects that lib/ops/*.ts pass: it has validated in the caller's words; sizes and types are
// checked once more here, because memory depends on them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "addon/common/napi_min.h"
#include "kernels/kernels.h"

namespace fg {

template <class T>
constexpr napi_typedarray_type array_type() {
  if constexpr (std::is_same_v<T, float>) return napi_float32_array;
  if constexpr (std::is_same_v<T, double>) return napi_float64_array;
  if constexpr (std::is_same_v<T, int32_t>) return napi_int32_array;
  if constexpr (std::is_same_v<T, uint16_t>) return napi_uint16_array;
  return napi_uint8_array;
}

class Arguments {
 public:
  explicit Arguments(Napi::Object object) : object_(object) {}

  bool has(const char* name) const { return !get(name).IsUndefined(); }
  double number(const char* name) const {
    const Napi::Value v = get(name);
    if (!v.IsNumber()) fail(name, "a number");
    return v.As<Napi::Number>().DoubleValue();
  }
  int64_t integer(const char* name) const {
    const double v = number(name);
    if (!(std::abs(v) <= 9007199254740991.0)) fail(name, "an integer");
    return int64_t(v);
  }
  bool flag(const char* name) const { return get(name).ToBoolean(); }

  /// The elements of a typed array with at least `length` of them; null when the argument is undefined.
  template <class T>
  T* array(const char* name, int64_t length) const {
    const Napi::Value v = get(name);
    if (v.IsUndefined()) return nullptr;
    if (!v.IsTypedArray()) fail(name, "a typed array");
    napi_typedarray_type type;
    size_t count;
    void* data;
    if (napi_get_typedarray_info(object_.Env(), v, &type, &count, &data, nullptr, nullptr) != napi_ok)
      fail(name, "a typed array");
    if (type != array_type<T>() || length < 0 || int64_t(count) < length)
      fail(name, "a typed array of the right type and length");
    return static_cast<T*>(data);
  }
  template <class T>
  T* required(const char* name, int64_t length) const {
    if (!has(name)) fail(name, "a typed array");
    return array<T>(name, length);
  }

  Layout layout() const {
    Layout l;
    l.rows = integer("rows");
    l.sequences = integer("sequences");
    l.offsets = array<int32_t>("offsets", l.sequences + 1);
    l.mask = array<uint8_t>("mask", l.rows);
    l.truncated = array<uint8_t>("truncated", l.sequences);
    if (l.offsets) check_offsets("offsets", l.offsets, l.sequences, l.rows);
    if (l.rows < 0 || (!l.offsets && l.sequences != 1)) fail("layout", "offsets");
    return l;
  }

  /// `data` names the array; strides are checked against its length.
  Rows rows(const char* data, const char* row_stride, const char* sequence_stride, const Layout& l) const {
    Rows r;
    r.dtype = DType(integer("dtype"));
    r.vocab = integer("vocab");
    r.row_stride = integer(row_stride);
    r.sequence_stride = integer(sequence_stride);
    const int64_t extent = extent_of(r, l);
    r.data =
        r.dtype == DType::f32 ? static_cast<void*>(required<float>(data, extent)) : required<uint16_t>(data, extent);
    return r;
  }

  /// Elements from the first that the rows reach to.
  static int64_t extent_of(const Rows& r, const Layout& l) {
    if (r.vocab < 1 || r.row_stride < r.vocab || r.sequence_stride < 0) fail("rowStride", "at least vocabSize");
    int64_t end = l.rows > 0 && r.sequence_stride == 0 ? (l.rows - 1) * r.row_stride + r.vocab : 0;
    for (int64_t s = 0; s < l.sequences && r.sequence_stride != 0; ++s) {
      const int64_t length = l.offsets ? l.offsets[s + 1] - l.offsets[s] : l.rows;
      if (length > 0) end = std::max(end, s * r.sequence_stride + (length - 1) * r.row_stride + r.vocab);
    }
    return end;
  }

  static void check_offsets(const char* name, const int32_t* offsets, int64_t count, int64_t last) {
    bool good = offsets[0] == 0 && offsets[count] == last;
    for (int64_t i = 0; i < count; ++i) good = good && offsets[i] <= offsets[i + 1];
    if (!good) fail(name, "0 first, then non-decreasing, the number of elements last");
  }

  [[noreturn]] static void fail(const char* name, const char* what) {
    throw UserError(UserError::Kind::type, "ERR_INVALID_ARG", std::string("Expected ") + what + " for " + name);
  }

 private:
  /// Own properties alone: a getter on Object.prototype would run in the middle of the reading, when pointers into
  /// arrays are already held, and could transfer their memory away.
  Napi::Value get(const char* name) const {
    return object_.HasOwnProperty(name) ? object_.Get(name) : object_.Env().Undefined();
  }
  Napi::Object object_;
};

/// V8 ends the process when it cannot have the memory of an array: large ones are asked for beforehand.
inline void check_memory(size_t bytes) {
  if (bytes < size_t(64) << 20) return;
  const std::unique_ptr<void, decltype(&std::free)> probe(std::malloc(bytes), &std::free);
  if (!probe) throw std::bad_alloc();
}

template <class T>
T* new_array(Napi::Env env, Napi::Object result, const char* name, int64_t length) {
  check_memory(size_t(length) * sizeof(T));
  auto array = Napi::TypedArrayOf<T>::New(env, size_t(length), array_type<T>());
  result.Set(name, array);
  return array.Data();
}

}  // namespace fg
