#include "capi/check.h"

#include <algorithm>
#include <cmath>

namespace fg::capi {
namespace {

std::string text_of(const Bounds& b) {
  std::string out = "a finite number";
  if (std::isfinite(b.min)) out += " >= " + number_text(b.min);
  if (std::isfinite(b.above)) out += " > " + number_text(b.above);
  if (std::isfinite(b.max)) out += " and <= " + number_text(b.max);
  return out;
}

std::string pointer_text(uintptr_t address, size_t alignment) {
  return "an address of remainder " + std::to_string(address % alignment);
}

}  // namespace

double number(const char* name, double value, Bounds b) {
  const bool good = std::isfinite(value) && value >= b.min && value <= b.max && value > b.above && is_set(value);
  if (!good) invalid({name}, text_of(b), number_text(value));
  return value;
}

double optional_number(const char* name, double value, double absent, Bounds bounds) {
  return is_set(value) ? number(name, value, bounds) : absent;
}

int32_t choice(const char* name, int32_t value, int32_t count, const char* names) {
  if (value < 0 || value >= count)
    invalid({name}, std::string("one of ") + names + " (0 to " + std::to_string(count - 1) + ")",
            std::to_string(value));
  return value;
}

bool flag(const char* name, int32_t value) {
  if (value != 0 && value != 1) invalid({name}, "0 or 1", std::to_string(value));
  return value == 1;
}

void reserved(const char* name, int32_t value) {
  if (value != 0) invalid({name}, "0 (it has no meaning yet)", std::to_string(value));
}

double temperature(double value) {
  number("temperature", value, {.above = 0});
  const float inverse = float(1.44269504088896340736 / value);  // kernels/cpu/logits.h multiplies by it
  if (!std::isfinite(inverse) || inverse == 0)
    invalid({"temperature"}, "a number whose inverse fits float32", number_text(value));
  return value;
}

int64_t count(const char* name, int64_t value, int64_t least) {
  if (value < least || value > INT32_MAX)
    invalid({name}, "a number from " + std::to_string(least) + " to 2^31 - 1", std::to_string(value));
  return value;
}

void offsets(const char* name, const int32_t* values, int64_t count, int64_t last, const char* what) {
  if (values[0] != 0) invalid({name, 0}, "0", std::to_string(values[0]));
  for (int64_t i = 0; i < count; ++i)
    if (values[i] > values[i + 1])
      invalid({name, i + 1}, "at least " + std::to_string(values[i]) + " (offsets do not decrease)",
              std::to_string(values[i + 1]));
  if (values[count] != last)
    invalid({name, count}, std::to_string(last) + ", the number of " + what + ",", std::to_string(values[count]));
}

void Buffers::add(const char* name, const void* data, int64_t count, int64_t size, size_t alignment, bool written,
                  bool required) {
  if (count == 0) return;
  if (!data) {
    if (required) invalid({name}, "a pointer to " + std::to_string(count) + " elements", "NULL");
    return;
  }
  const auto address = reinterpret_cast<uintptr_t>(data);
  if (address % alignment != 0)
    invalid({name}, "a multiple of " + std::to_string(alignment) + " as address", pointer_text(address, alignment));
  int64_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || address + uintptr_t(bytes) < address)
    invalid({name}, "an array that fits the address space", std::to_string(count) + " elements");
  const auto* begin = static_cast<const char*>(data);
  ranges_.push_back({name, begin, begin + bytes, written});
}

void Buffers::check_scratch(void* data, size_t given, size_t needed) {
  if (needed == 0) return;
  if (given < needed)
    refuse(FG_SCRATCH_TOO_SMALL, {"scratch_bytes"}, "at least " + std::to_string(needed), std::to_string(given));
  add("scratch", data, int64_t(needed), 1, FG_SCRATCH_ALIGNMENT, true, true);
}

namespace {

/// Elements from the first that the rows reach to; -1: they do not fit int64.
int64_t extent(const Rows& r, const Layout& l) {
  const auto reach = [&](int64_t sequence, int64_t length) -> int64_t {
    int64_t first, last, end;
    if (__builtin_mul_overflow(sequence, r.sequence_stride, &first) ||
        __builtin_mul_overflow(length - 1, r.row_stride, &last) || __builtin_add_overflow(first, last, &end) ||
        __builtin_add_overflow(end, r.vocab, &end))
      return -1;
    return end;
  };
  if (l.rows == 0) return 0;
  if (r.sequence_stride == 0 || !l.offsets) return reach(0, l.rows);
  for (int64_t s = l.sequences - 1; s >= 0; --s)
    if (const int64_t length = l.offsets[s + 1] - l.offsets[s]; length > 0) return reach(s, length);
  return 0;
}

void check_sequence_stride(const std::string& name, const Rows& r, const Layout& l) {
  for (int64_t s = 0; r.sequence_stride > 0 && s < l.sequences; ++s) {
    const int64_t length = l.offsets ? l.offsets[s + 1] - l.offsets[s] : l.rows;
    if (length > 0 && (length - 1 > (INT64_MAX - r.vocab) / r.row_stride ||
                       (length - 1) * r.row_stride + r.vocab > r.sequence_stride))
      invalid({name + ".sequence_stride"}, "no less than the rows of sequence " + std::to_string(s) + " need",
              std::to_string(r.sequence_stride));
  }
}

}  // namespace

Rows Buffers::rows(const char* name, const fg_matrix* matrix, const Layout& l, bool written) {
  const fg_matrix m = take(matrix, name);
  const std::string prefix = name;
  Rows r;
  reserved((prefix + ".reserved").c_str(), m.reserved);
  r.dtype = DType(choice((prefix + ".dtype").c_str(), m.dtype, 3, "FG_FLOAT32, FG_BFLOAT16, FG_FLOAT16"));
  r.vocab = count((prefix + ".vocab").c_str(), m.vocab, 1);
  r.row_stride = m.row_stride == 0 ? r.vocab : m.row_stride;
  r.sequence_stride = m.sequence_stride;
  if (r.row_stride < r.vocab)
    invalid({prefix + ".row_stride"}, "at least " + std::to_string(r.vocab), std::to_string(r.row_stride));
  if (r.sequence_stride < 0) invalid({prefix + ".sequence_stride"}, "at least 0", std::to_string(r.sequence_stride));
  check_sequence_stride(prefix, r, l);
  r.data = m.data;
  const int64_t elements = extent(r, l), size = size_of(r.dtype);
  if (elements < 0) invalid({name}, "strides that fit the address space", std::to_string(r.row_stride));
  add(name, m.data, elements, size, size_t(size), written, true);
  return r;
}

void Buffers::check_overlap(const Rows* logits, const Rows* grad) const {
  const bool in_place = logits && grad && grad->data == logits->data && grad->row_stride == logits->row_stride &&
                        grad->sequence_stride == logits->sequence_stride && grad->dtype == logits->dtype;
  const auto is = [](const Range& r, const char* name) { return std::string_view(r.name) == name; };
  for (size_t i = 0; i < ranges_.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Range &a = ranges_[j], &b = ranges_[i];
      if ((!a.written && !b.written) || a.begin >= b.end || b.begin >= a.end) continue;
      if (in_place && is(a, "logits") && is(b, "grad")) continue;
      invalid({b.name}, std::string("memory of its own (") + a.name + " lies there too)", "overlapping memory");
    }
  }
}

Layout layout_sizes(const fg_layout* x) {
  const fg_layout given = take(x, "layout");
  Layout l;
  l.rows = count("layout.rows", given.rows);
  l.sequences = count("layout.sequences", given.sequences);
  return l;
}

Layouts layouts(Buffers& buffers, const fg_layout* x, Runner& runner) {
  Layout l = layout_sizes(x);
  const fg_layout given = take(x, "layout");
  l.offsets = buffers.optional_in("layout.offsets", given.offsets, l.sequences + 1);
  l.mask = buffers.optional_in("layout.mask", given.mask, l.rows);
  if (!l.offsets && l.sequences != 1)
    invalid({"layout.offsets"},
            "a pointer to " + std::to_string(l.sequences + 1) + " offsets (there is not one sequence)", "NULL");
  Layout host = l;
  host.offsets = runner.on_host(l.offsets, l.sequences + 1), host.mask = runner.on_host(l.mask, l.rows);
  if (l.offsets) offsets("layout.offsets", host.offsets, l.sequences, l.rows, "rows");
  return {l, host};
}

namespace {

Place place_of(const char* name, int64_t row, const Layout* l) {
  Place p{name, row};
  if (!l || !l->offsets || l->sequences < 2) return p;
  p.sequence = std::upper_bound(l->offsets, l->offsets + l->sequences + 1, int32_t(row)) - l->offsets - 1;
  p.token = row - l->offsets[p.sequence];
  return p;
}

}  // namespace

void raise_fault(const kernels::Status& s, const Culprits& c, const Runner& runner) {
  using kernels::Fault;
  if (s.ok()) return;
  if (s.fault == Fault::target)
    invalid(place_of("targets", s.row, c.layout), "a token id from 0 to " + std::to_string(c.vocab - 1),
            std::to_string(runner.element(c.targets, s.row)));
  for (const auto& [fault, of] : c.arrays) {
    if (fault != s.fault) continue;
    const double value = of.floats ? double(runner.element(of.floats, s.row)) : runner.element(of.doubles, s.row);
    if (fault == Fault::binary_reward) invalid({of.name, s.row}, "0 or 1", number_text(value));
    if (fault == Fault::function_reward) {
      const std::string name = "rewards[" + std::to_string(s.row / c.completions) + "]";
      not_finite({name, s.row % c.completions}, value);
    }
    // one number a token, or one a sequence, pair or step
    not_finite(of.floats && fault != Fault::last_value ? place_of(of.name, s.row, c.layout) : Place{of.name, s.row},
               value);
  }
  const Place row = place_of(s.fault == Fault::advantage ? "position" : "row", s.row, c.layout);
  if (s.fault == Fault::advantage)
    refuse(FG_NON_FINITE, {"advantages", row.index, row.sequence, row.token}, "finite advantages", "one that is not");
  refuse(FG_NON_FINITE, {"logits", row.index, row.sequence, row.token},
         "finite logits (-infinity masks a token; one of a row must be finite)", "NaN, +infinity or no finite value");
}

}  // namespace fg::capi
