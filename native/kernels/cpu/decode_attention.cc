// Attention of one query per sequence over its own cache length: no padding, no mask, online softmax over spans of 256
// positions; only vectors of scores that hold a position are computed.
#include <algorithm>

#include "kernels/cpu/tile_product.h"
#include "kernels/decode.h"

namespace fg {
namespace {

struct Running {
  float max = -INFINITY, sum = 0.0f;
};

constexpr int64_t kMaxDim = 1024 + 16;  // not 4 KB apart: rows would push each other out of the first cache
constexpr int kSpan = 16;               // vectors of scores between two looks at the maximum

/// s = q K for kCount x 16 neighbouring positions, of kHeads queries that share the keys: those are widened once.
template <int kHeads, int kCount, class T>
FG_INLINE void scores(const float (*q)[kMaxDim], const T* k, int64_t capacity, int64_t dim, f32x16 (*s)[kSpan]) {
  f32x16 sum[kHeads][kCount] = {};
  for (int64_t d = 0; d < dim; ++d)
    for (int i = 0; i < kCount; ++i) {
      const f32x16 key = load_vector<f32x16>(k + d * capacity + kLane * i);
      for (int h = 0; h < kHeads; ++h) sum[h][i] += q[h][d] * key;
    }
  for (int h = 0; h < kHeads; ++h)
    for (int i = 0; i < kCount; ++i) s[h][i] = sum[h][i];
}

/// acc += p V over positions [from, to) for kCount vectors of columns, kept in registers. Several sets of accumulators
/// where there are few columns: one would wait for itself.
template <class V, int kHeads, int kCount, int kSets, class T>
FG_INLINE void add_columns(const float (*p)[kLane], const T* v, int from, int to, int64_t dim, float (*acc)[kMaxDim],
                           int64_t column) {
  constexpr int kWidth = sizeof(V) / sizeof(float);
  V sum[kHeads][kSets][kCount] = {};
  v += column;
  const auto add = [&](int j, int set) __attribute__((always_inline)) {
    for (int i = 0; i < kCount; ++i) {
      const V value = load_vector<V>(v + j * dim + i * kWidth);
      for (int h = 0; h < kHeads; ++h) sum[h][set][i] += p[h][j] * value;
    }
  };
  int j = from;
  for (; j + kSets <= to; j += kSets)
    for (int set = 0; set < kSets; ++set) add(j + set, set);
  for (; j < to; ++j) add(j, 0);
  for (int h = 0; h < kHeads; ++h)
    for (int i = 0; i < kCount; ++i) {
      for (int set = 1; set < kSets; ++set) sum[h][0][i] += sum[h][set][i];
      float* to_acc = acc[h] + column + i * kWidth;
      const V total = load_vector<V>(to_acc) + sum[h][0][i];
      __builtin_memcpy(to_acc, &total, sizeof total);
    }
}

template <int kHeads, class T>
FG_INLINE void add_values(const float (*p)[kLane], const T* v, int from, int to, int64_t dim, float (*acc)[kMaxDim]) {
  int64_t d = 0;
  for (; d + 64 <= dim; d += 64) add_columns<f32x16, kHeads, 4, 1>(p, v, from, to, dim, acc, d);
  for (; d + 16 <= dim; d += 16) add_columns<f32x16, kHeads, 1, 4>(p, v, from, to, dim, acc, d);
  for (; d + 8 <= dim; d += 8) add_columns<f32x8, kHeads, 1, 4>(p, v, from, to, dim, acc, d);
  for (; d < dim; ++d)
    for (int h = 0; h < kHeads; ++h)
      for (int j = from; j < to; ++j) acc[h][d] += p[h][j] * load(v + j * dim + d);
}

/// Queries that share their keys and values, with what has been added up so far; acc is the unnormalised output.
template <int kHeads>
struct Queries {
  float q[kHeads][kMaxDim], acc[kHeads][kMaxDim];
  Running run[kHeads];
};

/// The scores that wait for their softmax: vectors of 16 positions, each with the values it weighs.
template <int kHeads, class T>
struct Span {
  f32x16 s[kHeads][kSpan];
  const T* v[kSpan];           // values of the vector's first position
  int from[kSpan], to[kSpan];  // positions of the vector that count
  int count = 0;
};

/// Makes the running maximum of a head that of the span as well; false while nothing has counted yet.
FG_INLINE bool raise_max(const f32x16* s, int count, int64_t dim, Running& run, float* acc) {
  f32x16 top = f32x16{} - INFINITY;
  for (int i = 0; i < count; ++i) top = s[i] > top ? s[i] : top;
  const float max = lane_max(top);
  if (max > run.max) {
    const float scale = exp_fast(run.max - max);
    run.sum *= scale;
    for (int64_t d = 0; d < dim; ++d) acc[d] *= scale;
    run.max = max;
  }
  return run.max > -INFINITY;
}

/// Adds a span to the running softmax of each head and empties it.
template <int kHeads, class T>
FG_INLINE void add_span(Span<kHeads, T>& span, int64_t dim, Queries<kHeads>& to) {
  bool counts = false;  // a position that counts, counts for every head
  for (int h = 0; h < kHeads; ++h) counts |= raise_max(span.s[h], span.count, dim, to.run[h], to.acc[h]);
  if (counts) {
    f32x16 sum[kHeads] = {};
    for (int i = 0; i < span.count; ++i) {
      float p[kHeads][kLane];
      for (int h = 0; h < kHeads; ++h) {
        const f32x16 e = exp_fast(span.s[h][i] - to.run[h].max);
        sum[h] += e;
        __builtin_memcpy(p[h], &e, sizeof e);
      }
      add_values<kHeads>(p, span.v[i], span.from[i], span.to[i], dim, to.acc);
    }
    for (int h = 0; h < kHeads; ++h) to.run[h].sum += lane_total(sum[h]);
  }
  span.count = 0;
}

/// Scores of positions [begin, end) of one segment.
template <int kHeads, class T>
FG_INLINE void add_segment(const T* k, const T* v, int64_t begin, int64_t end, int64_t capacity, int64_t dim,
                           Span<kHeads, T>& span, Queries<kHeads>& to) {
  const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const f32x16 nothing = f32x16{} - INFINITY;
  for (int64_t at = begin / kLane * kLane; at < end;) {
    const int64_t left = (end - at + kLane - 1) / kLane;
    if (span.count + 4 > kSpan) add_span(span, dim, to);
    auto* s = reinterpret_cast<f32x16(*)[kSpan]>(&span.s[0][span.count]);
    const int n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (n == 4)
      scores<kHeads, 4>(to.q, k + at, capacity, dim, s);
    else if (n == 2)
      scores<kHeads, 2>(to.q, k + at, capacity, dim, s);
    else
      scores<kHeads, 1>(to.q, k + at, capacity, dim, s);
    for (int i = 0; i < n; ++i, at += kLane, ++span.count) {
      // What lies outside [begin, end) was never written or is out of the window: it is replaced, not used.
      const int from = static_cast<int>(std::max<int64_t>(begin - at, 0)),
                upto = static_cast<int>(std::min<int64_t>(end - at, kLane));
      for (int h = 0; h < kHeads; ++h) {
        if (from > 0) s[h][i] = lane < from ? nothing : s[h][i];
        if (upto < kLane) s[h][i] = lane >= upto ? nothing : s[h][i];
      }
      span.v[span.count] = v + at * dim;
      span.from[span.count] = from;
      span.to[span.count] = upto;
    }
  }
}

template <class T>
FG_INLINE void append(const DecodeAttentionArgs& a, const CacheSegment& own, int64_t head_offset, const T* k,
                      const T* v) {
  T* keys = static_cast<T*>(own.k) + head_offset * a.dim * own.capacity + own.length;
  T* values = static_cast<T*>(own.v) + (head_offset * own.capacity + own.length) * a.dim;
  for (int64_t d = 0; d < a.dim; ++d) keys[d * own.capacity] = k[d];
  std::copy(v, v + a.dim, values);
}

/// What a sequence's query sees: positions [begin, end) of the prompt, then of its own.
struct Seen {
  const CacheSegment* segment;
  int64_t begin, end;
};

/// Heads [head, head + kHeads) of row r, which share the cache's head `cache`.
template <int kHeads, class T>
FG_INLINE void attend_heads(const DecodeAttentionArgs& a, int64_t r, int64_t head, int64_t cache,
                            const Seen (&seen)[2]) {
  const int64_t dim = a.dim;
  Queries<kHeads> queries;
  for (int h = 0; h < kHeads; ++h) {
    const T* from = static_cast<const T*>(a.q) + (r * a.heads + head + h) * dim;
    for (int64_t d = 0; d < dim; ++d) queries.q[h][d] = load(from + d) * a.scale, queries.acc[h][d] = 0.0f;
  }
  Span<kHeads, T> span;
  for (const Seen& part : seen) {
    const CacheSegment& c = *part.segment;
    add_segment(static_cast<const T*>(c.k) + cache * dim * c.capacity,
                static_cast<const T*>(c.v) + cache * c.capacity * dim, part.begin, part.end, c.capacity, dim, span,
                queries);
  }
  add_span(span, dim, queries);
  for (int h = 0; h < kHeads; ++h) {
    T* to = static_cast<T*>(a.out) + (r * a.heads + head + h) * dim;
    for (int64_t d = 0; d < dim; ++d) store(to + d, queries.acc[h][d] / queries.run[h].sum);
  }
}

/// kMost: heads at once, as many as the registers hold.
template <int kMost, class T>
FG_INLINE void attend_row(const DecodeAttentionArgs& a, int64_t r) {
  const DecodeSequence& s = *a.sequences[r];
  const int64_t group = a.heads / a.kv_heads, length = s.prompt.length + s.own.length + 1;
  const int64_t first = a.window > 0 ? std::max<int64_t>(0, length - a.window) : 0;
  const Seen seen[2] = {{&s.prompt, first, s.prompt.length},
                        {&s.own, std::max<int64_t>(0, first - s.prompt.length), s.own.length + 1}};
  for (int64_t h = 0; h < a.kv_heads; ++h) {
    const int64_t cache = a.layer * a.kv_heads + h, end = (h + 1) * group;
    append(a, s.own, cache, static_cast<const T*>(a.k) + (r * a.kv_heads + h) * a.dim,
           static_cast<const T*>(a.v) + (r * a.kv_heads + h) * a.dim);
    int64_t g = h * group;
    if constexpr (kMost >= 4)
      for (; g + 4 <= end; g += 4) attend_heads<4, T>(a, r, g, cache, seen);
    if constexpr (kMost >= 3)
      for (; g + 3 <= end; g += 3) attend_heads<3, T>(a, r, g, cache, seen);
    if constexpr (kMost >= 2)
      for (; g + 2 <= end; g += 2) attend_heads<2, T>(a, r, g, cache, seen);
    for (; g < end; ++g) attend_heads<1, T>(a, r, g, cache, seen);
  }
}

template <int kMost, class T>
FG_INLINE void attend_rows(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) attend_row<kMost, T>(a, r);
}

template <int kRows, int kVectors>
FG_INLINE void attend_any(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  constexpr int kMost = kRows == 8 ? 4 : 1;  // of 32 vector registers of 16 numbers, 16 hold sums
  a.dtype == DType::f32 ? attend_rows<kMost, float>(a, begin, end) : attend_rows<kMost, bf16>(a, begin, end);
}

FG_TILED(void, attend_range, attend_any, (const DecodeAttentionArgs& a, int64_t begin, int64_t end), (a, begin, end))

}  // namespace

void decode_attention(const Context& context, const DecodeAttentionArgs& a) {
  parallel_for(context, a.rows, 1, [&](int64_t begin, int64_t end) { attend_range(a, begin, end); });
}

}  // namespace fg
