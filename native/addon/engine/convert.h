#pragma once
// Reading plain JavaScript objects and typed arrays. lib/engine validates; these checks only keep wrong calls from
// reading wild memory.
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "addon/common/napi_min.h"
#include "torch/model/config.h"

namespace fg {

inline UserError bad_argument(const std::string& name, const std::string& what) {
  return {UserError::Kind::type, "ERR_INVALID_ARG", "Expected " + what + " for " + name};
}
inline Napi::Object object_at(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) throw bad_argument(name, "an object");
  return value.As<Napi::Object>();
}
inline double number_at(const Napi::Object& o, const char* key) {
  const Napi::Value v = o.Get(key);
  if (!v.IsNumber()) throw bad_argument(key, "a number");
  return v.As<Napi::Number>().DoubleValue();
}
inline int64_t integer_at(const Napi::Object& o, const char* key) {
  const double v = number_at(o, key);
  if (!(std::abs(v) <= 9007199254740991.0) || v != std::floor(v)) throw bad_argument(key, "an integer");
  return static_cast<int64_t>(v);
}
inline bool bool_at(const Napi::Object& o, const char* key) {
  const Napi::Value v = o.Get(key);
  if (!v.IsBoolean()) throw bad_argument(key, "a boolean");
  return v.As<Napi::Boolean>().Value();
}
inline bool bool_at(const Napi::Object& o, const char* key, bool fallback) {
  return o.Get(key).IsUndefined() ? fallback : bool_at(o, key);
}
inline std::string string_of(const Napi::Value& v, const std::string& name) {
  if (!v.IsString()) throw bad_argument(name, "a string");
  return v.As<Napi::String>().Utf8Value();
}
inline std::string string_at(const Napi::Object& o, const char* key) { return string_of(o.Get(key), key); }

/// Copies a typed array of exactly this element type.
template <class T>
std::vector<T> copy_typed(const Napi::Value& v, const std::string& name, napi_typedarray_type type, const char* what) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != type) throw bad_argument(name, what);
  const auto array = v.As<Napi::TypedArrayOf<T>>();
  return array.ElementLength() == 0 ? std::vector<T>()
                                    : std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}
inline std::vector<int32_t> int32s(const Napi::Value& v, const std::string& name) {
  return copy_typed<int32_t>(v, name, napi_int32_array, "an Int32Array");
}
inline std::vector<int32_t> int32s_at(const Napi::Object& o, const char* key) { return int32s(o.Get(key), key); }

inline std::vector<std::string> strings_at(const Napi::Value& v, const std::string& name) {
  if (!v.IsArray()) throw bad_argument(name, "an array of strings");
  const auto array = v.As<Napi::Array>();
  std::vector<std::string> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(string_of(array.Get(i), name));
  return out;
}

/// Sequences of token ids end to end: { tokens: Int32Array, offsets: Int32Array (count + 1) }.
struct TokenLists {
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets;
  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t length(int64_t i) const { return offsets[static_cast<size_t>(i) + 1] - offsets[static_cast<size_t>(i)]; }
  const int32_t* begin(int64_t i) const { return tokens.data() + offsets[static_cast<size_t>(i)]; }
};
/// Checks the offsets, and every id against the vocabulary.
TokenLists token_lists(const Napi::Value& value, const std::string& name, int64_t vocab);

/// How a scalar head begins, { std, seed }; undefined or null: there is none.
inline std::optional<ScoreInit> score_init(const Napi::Value& value) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  const Napi::Object o = object_at(value, "scalarHead");
  return ScoreInit{number_at(o, "std"), static_cast<uint64_t>(integer_at(o, "seed"))};
}

template <class Array, class T>
Array to_typed(Napi::Env env, const std::vector<T>& from) {
  Array out = Array::New(env, from.size());
  std::copy(from.begin(), from.end(), out.Data());
  return out;
}

}  // namespace fg
