#pragma once
// Structs of any version of the header: a caller's may be shorter or longer than this library's.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>

#include "capi/failure.h"
#include "capi/fused_grpo.h"

namespace fg::capi {

/// Every public struct, and the sizes that it has had, from the first to today's.
#define FG_STRUCTS(X)                     \
  X(fg_error, 616)                        \
  X(fg_exec, 24)                          \
  X(fg_layout, 40)                        \
  X(fg_matrix, 48)                        \
  X(fg_advantage_options, 40)             \
  X(fg_loss_options, 264)                 \
  X(fg_policy_batch, 64)                  \
  X(fg_metrics, 88)                       \
  X(fg_selective_logp_args, 80)           \
  X(fg_selective_logp_backward_args, 80)  \
  X(fg_policy_loss_args, 72)              \
  X(fg_grpo_loss_args, 96)                \
  X(fg_group_advantages_args, 88)         \
  X(fg_multi_reward_advantages_args, 112) \
  X(fg_process_advantages_args, 112)      \
  X(fg_pass_at_k_advantages_args, 64, 80) \
  X(fg_rewards_with_kl_args, 64, 80)      \
  X(fg_gae_args, 96)                      \
  X(fg_value_loss_args, 80, 96)           \
  X(fg_preference_loss_args, 96, 112)

template <class T>
struct StructInfo;
#define FG_STRUCT_INFO(type, ...)                    \
  template <>                                        \
  struct StructInfo<type> {                          \
    static constexpr size_t sizes[] = {__VA_ARGS__}; \
    static constexpr const char* name = #type;       \
  };                                                 \
  static_assert(*(std::end(StructInfo<type>::sizes) - 1) == sizeof(type), "a struct that grows has another size");
FG_STRUCTS(FG_STRUCT_INFO)
#undef FG_STRUCT_INFO

/// No version will have one as long: such a size is garbage, and memory behind it is not looked at.
inline constexpr size_t kLongestStruct = 4096;

/// Whether this version or an earlier one had that size, or a later one may.
template <class T>
bool possible_size(size_t size) {
  const auto& sizes = StructInfo<T>::sizes;
  return (size > sizeof(T) && size <= kLongestStruct) ||
         std::find(std::begin(sizes), std::end(sizes), size) != std::end(sizes);
}

/// Whether a struct of that size can be understood: nothing set that this library does not know.
template <class T>
bool usable_struct(const T* x) {
  if (reinterpret_cast<uintptr_t>(x) % alignof(T) != 0 || !possible_size<T>(x->struct_size)) return false;
  const auto* bytes = reinterpret_cast<const unsigned char*>(x);
  for (size_t i = sizeof(T); i < x->struct_size; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

template <class T>
T defaults();

/// The caller's struct with defaults for what it is too short to say. `name`: of the argument.
template <class T>
T take(const T* x, const char* name) {
  const std::string type = StructInfo<T>::name;
  if (!x) invalid({name}, "a pointer to a " + type, "NULL");
  if (!usable_struct(x)) {
    if (reinterpret_cast<uintptr_t>(x) % alignof(T) != 0) invalid({name}, "an aligned " + type, "a misaligned pointer");
    const std::string size = std::to_string(x->struct_size);
    const bool longer = x->struct_size > sizeof(T) && x->struct_size <= kLongestStruct;
    refuse(FG_STRUCT_SIZE, {std::string(name) + ".struct_size"}, "a size of " + type + " (call " + type + "_init)",
           longer ? size + " with fields that this library (ABI version " + std::to_string(FG_ABI_VERSION) +
                        ") does not know"
                  : size);
  }
  T out = defaults<T>();
  std::memcpy(static_cast<void*>(&out), x, x->struct_size < sizeof(T) ? x->struct_size : sizeof(T));
  out.struct_size = sizeof(T);
  return out;
}

/// `take`, with the defaults for NULL.
template <class T>
T take_or_defaults(const T* x, const char* name) {
  return x ? take(x, name) : defaults<T>();
}

/// Writes an output struct as far as the caller knows it.
template <class T>
void give(T* to, T from) {
  const size_t size = to->struct_size < sizeof(T) ? to->struct_size : sizeof(T);
  from.struct_size = to->struct_size;
  std::memcpy(static_cast<void*>(to), &from, size);
}

}  // namespace fg::capi
