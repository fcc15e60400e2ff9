#pragma once
// What the forward pass and the gradient of attention share: one segment and head, a tile of queries at a time.
#include <cmath>

#include "kernels/attention.h"
#include "kernels/cpu/tile_product.h"

namespace fg {

constexpr int64_t kQueries = 32;  // of a tile

/// The keys (or values) of a segment and its prefix, one head.
struct KeyRange {
  int64_t prefix_begin = 0, prefix = 0;  // rows of the prefix
  int64_t begin = 0, own = 0;

  int64_t total() const { return prefix + own; }
};

inline KeyRange keys_of(const AttentionArgs& a, const Segment& s) {
  KeyRange keys{0, 0, s.begin, s.length()};
  if (s.prefix >= 0) keys.prefix_begin = a.segments[s.prefix].begin, keys.prefix = a.segments[s.prefix].length();
  return keys;
}

/// to (rows, padded) = scale * from, zeros behind dim.
template <class T>
FG_INLINE void read_rows(const T* from, int64_t stride, int64_t rows, int64_t dim, int64_t padded, float scale,
                         float* to) {
  for (int64_t r = 0; r < rows; ++r, from += stride, to += padded) {
    for (int64_t d = 0; d < dim; ++d) to[d] = load(from + d) * scale;
    for (int64_t d = dim; d < padded; ++d) to[d] = 0.0f;
  }
}

/// to (dim, ld): the transpose; columns behind `rows` are left alone.
template <class T>
FG_INLINE void read_transposed(const T* from, int64_t stride, int64_t rows, int64_t dim, int64_t ld, float* to) {
  for (int64_t r = 0; r < rows; ++r, from += stride)
    for (int64_t d = 0; d < dim; ++d) to[d * ld + r] = load(from + d);
}

template <class T>
FG_INLINE void read_keys(const T* base, const KeyRange& keys, int64_t stride, int64_t dim, int64_t padded, float* to) {
  read_rows(base + keys.prefix_begin * stride, stride, keys.prefix, dim, padded, 1.0f, to);
  read_rows(base + keys.begin * stride, stride, keys.own, dim, padded, 1.0f, to + keys.prefix * padded);
}

template <class T>
FG_INLINE void read_keys_transposed(const T* base, const KeyRange& keys, int64_t stride, int64_t dim, int64_t ld,
                                    float* to) {
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t c = keys.total(); c < ld; ++c) to[d * ld + c] = 0.0f;
  read_transposed(base + keys.prefix_begin * stride, stride, keys.prefix, dim, ld, to);
  read_transposed(base + keys.begin * stride, stride, keys.own, dim, ld, to + keys.prefix);
}

template <class T>
FG_INLINE void write_rows(const float* from, int64_t padded, int64_t rows, int64_t dim, T* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r, from += padded, to += stride)
    for (int64_t d = 0; d < dim; ++d) store(to + d, from[d]);
}

/// Queries [first, first + rows) of a segment against columns [low, high) of its keys.
struct Tile {
  int64_t first, rows, low, high, width;  // width: high - low up to a multiple of 16

  /// The columns (from low) that query r sees.
  FG_INLINE int64_t from(const AttentionArgs& a, const KeyRange& keys, int64_t r) const {
    const int64_t position = keys.prefix + first + r;
    return a.window > 0 ? std::max<int64_t>(0, position - a.window + 1 - low) : 0;
  }
  FG_INLINE int64_t to(const KeyRange& keys, int64_t r) const { return keys.prefix + first + r + 1 - low; }
};

FG_INLINE Tile tile_of(const AttentionArgs& a, const KeyRange& keys, int64_t first) {
  Tile t{first, std::min(kQueries, keys.own - first), 0, 0, 0};
  if (a.window > 0) t.low = std::max<int64_t>(0, keys.prefix + first - a.window + 1) / kLane * kLane;
  t.high = keys.prefix + first + t.rows;
  t.width = round_lanes(t.high - t.low);
  return t;
}

/// Scores of columns that a query does not see become -inf.
FG_INLINE void hide(float* row, const Tile& t, int64_t from, int64_t to) {
  for (int64_t c = 0; c < from; ++c) row[c] = -INFINITY;
  for (int64_t c = to; c < t.width; ++c) row[c] = -INFINITY;
}

}  // namespace fg
