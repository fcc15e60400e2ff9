#pragma once
// Checks of a call's arguments: numbers, buffers and what lies in them. All are made before anything is written.
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "capi/exec.h"
#include "capi/structs.h"
#include "kernels/kernels.h"

namespace fg::capi {

/// As in lib/ops/check.ts: finite, in [min, max], and more than `above`.
struct Bounds {
  double min = -std::numeric_limits<double>::infinity();
  double above = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};
double number(const char* name, double value, Bounds bounds = {});
/// `absent` for FG_UNSET.
double optional_number(const char* name, double value, double absent, Bounds bounds = {});
inline bool is_set(double value) { return value != FG_UNSET; }

/// From 0 to count - 1; `names` is for the message.
int32_t choice(const char* name, int32_t value, int32_t count, const char* names);
bool flag(const char* name, int32_t value);
void reserved(const char* name, int32_t value);
double temperature(double value);

/// A count of elements, from `least` to 2^31 - 1.
int64_t count(const char* name, int64_t value, int64_t least = 0);

/// First 0, then non-decreasing, then `last`, the number of `what`.
void offsets(const char* name, const int32_t* values, int64_t count, int64_t last, const char* what);

/// The buffers of one call: each is looked at when it is named, all of them together in the end.
class Buffers {
 public:
  /// `count` elements, which may be NULL only when there are none.
  template <class T>
  const T* in(const char* name, const T* data, int64_t count) {
    add(name, data, count, sizeof(T), alignof(T), false, true);
    return data;
  }
  template <class T>
  T* out(const char* name, T* data, int64_t count) {
    add(name, data, count, sizeof(T), alignof(T), true, true);
    return data;
  }
  /// NULL: not given.
  template <class T>
  const T* optional_in(const char* name, const T* data, int64_t count) {
    if (data) in(name, data, count);
    return data;
  }
  template <class T>
  T* optional_out(const char* name, T* data, int64_t count) {
    if (data) out(name, data, count);
    return data;
  }
  /// Rows of logits or of a gradient.
  Rows rows(const char* name, const fg_matrix* matrix, const Layout& layout, bool written);
  /// The caller's scratch.
  template <class T>
  T* scratch(void* data, size_t given, size_t needed) {
    check_scratch(data, given, needed);
    return static_cast<T*>(data);
  }
  template <class T>
  T* out_struct(const char* name, T* x) {
    take(x, name);
    add(name, x, 1, x->struct_size, alignof(T), true, true);
    return x;
  }

  /// What is written overlaps nothing else; `grad` may be the very memory of `logits`.
  void check_overlap(const Rows* logits = nullptr, const Rows* grad = nullptr) const;

 private:
  struct Range {
    const char* name;
    const char *begin, *end;
    bool written;
  };
  void add(const char* name, const void* data, int64_t count, int64_t size, size_t alignment, bool written,
           bool required);
  void check_scratch(void* data, size_t given, size_t needed);

  std::vector<Range> ranges_;
};

/// Sizes alone: what a scratch query needs.
Layout layout_sizes(const fg_layout* x);
/// A layout for the kernels, and the same where the host can read it.
struct Layouts {
  Layout here, host;
};
/// Everything, arrays' contents too.
Layouts layouts(Buffers& buffers, const fg_layout* x, Runner& runner);

/// A scratch query: `size` says how many bytes the sizes in the arguments ask for.
template <class Args, class Size>
fg_status query(const Args* args, size_t* bytes, fg_error* error, Size&& size) {
  return guarded(error, [&] {
    if (!bytes) invalid({"bytes"}, "a pointer to a size_t", "NULL");
    *bytes = size(take(args, "args"));
  });
}

/// Throws what a kernel found. `find` gives the array of a fault, for its name and value.
struct Culprit {
  const char* name = "";
  const float* floats = nullptr;
  const double* doubles = nullptr;
};
struct Culprits {
  const Layout* layout = nullptr;  // of the host
  const int32_t* targets = nullptr;
  int64_t vocab = 0;
  int64_t completions = 0;  // of each function's rewards
  std::vector<std::pair<kernels::Fault, Culprit>> arrays;
};
void raise_fault(const kernels::Status& status, const Culprits& culprits, const Runner& runner);

}  // namespace fg::capi
