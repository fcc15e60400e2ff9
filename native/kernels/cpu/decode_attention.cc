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

constexpr int64_t kMaxDim = 1024;
constexpr int kSpan = 16;  // vectors of scores between two looks at the maximum

/// s = q K for kCount x 16 neighbouring positions.
template <int kCount, class T>
FG_INLINE void scores(const float* q, const T* k, int64_t capacity, int64_t dim, f32x16* s) {
  f32x16 sum[kCount] = {};
  for (int64_t d = 0; d < dim; ++d)
    for (int i = 0; i < kCount; ++i) sum[i] += q[d] * load_vector<f32x16>(k + d * capacity + kLane * i);
  for (int i = 0; i < kCount; ++i) s[i] = sum[i];
}

/// acc += p V over positions [from, to) for kCount vectors of columns, kept in registers. Several sets of accumulators
/// where there are few columns: one would wait for itself.
template <class V, int kCount, int kSets, class T>
FG_INLINE void add_columns(const float* p, const T* v, int from, int to, int64_t dim, float* acc) {
  constexpr int kWidth = sizeof(V) / sizeof(float);
  V sum[kSets][kCount] = {};
  int j = from;
  for (; j + kSets <= to; j += kSets)
    for (int set = 0; set < kSets; ++set)
      for (int i = 0; i < kCount; ++i) sum[set][i] += p[j + set] * load_vector<V>(v + (j + set) * dim + i * kWidth);
  for (; j < to; ++j)
    for (int i = 0; i < kCount; ++i) sum[0][i] += p[j] * load_vector<V>(v + j * dim + i * kWidth);
  for (int i = 0; i < kCount; ++i) {
    for (int set = 1; set < kSets; ++set) sum[0][i] += sum[set][i];
    const V total = load_vector<V>(acc + i * kWidth) + sum[0][i];
    __builtin_memcpy(acc + i * kWidth, &total, sizeof total);
  }
}

template <class T>
FG_INLINE void add_values(const float* p, const T* v, int from, int to, int64_t dim, float* acc) {
  int64_t d = 0;
  for (; d + 64 <= dim; d += 64) add_columns<f32x16, 4, 1>(p, v + d, from, to, dim, acc + d);
  for (; d + 16 <= dim; d += 16) add_columns<f32x16, 1, 4>(p, v + d, from, to, dim, acc + d);
  for (; d + 8 <= dim; d += 8) add_columns<f32x8, 1, 4>(p, v + d, from, to, dim, acc + d);
  for (; d < dim; ++d)
    for (int j = from; j < to; ++j) acc[d] += p[j] * load(v + j * dim + d);
}

/// The scores that wait for their softmax: vectors of 16 positions, each with the values it weighs.
template <class T>
struct Span {
  f32x16 s[kSpan];
  const T* v[kSpan];           // values of the vector's first position
  int from[kSpan], to[kSpan];  // positions of the vector that count
  int count = 0;
};

/// Adds a span to the running softmax and empties it; acc (dim) is the unnormalised output.
template <class T>
FG_INLINE void add_span(Span<T>& span, int64_t dim, Running& run, float* acc) {
  f32x16 top = f32x16{} - INFINITY;
  for (int i = 0; i < span.count; ++i) top = span.s[i] > top ? span.s[i] : top;
  const float max = lane_max(top);
  if (max > run.max) {
    const float scale = exp_fast(run.max - max);
    run.sum *= scale;
    for (int64_t d = 0; d < dim; ++d) acc[d] *= scale;
    run.max = max;
  }
  if (run.max > -INFINITY) {
    f32x16 sum = {};
    for (int i = 0; i < span.count; ++i) {
      const f32x16 e = exp_fast(span.s[i] - run.max);
      sum += e;
      float p[kLane];
      __builtin_memcpy(p, &e, sizeof e);
      add_values(p, span.v[i], span.from[i], span.to[i], dim, acc);
    }
    run.sum += lane_total(sum);
  }
  span.count = 0;
}

/// Scores of positions [begin, end) of one segment and head.
template <class T>
FG_INLINE void add_segment(const float* q, const T* k, const T* v, int64_t begin, int64_t end, int64_t capacity,
                           int64_t dim, Span<T>& span, Running& run, float* acc) {
  const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const f32x16 nothing = f32x16{} - INFINITY;
  for (int64_t at = begin / kLane * kLane; at < end;) {
    const int64_t left = (end - at + kLane - 1) / kLane;
    if (span.count + 4 > kSpan) add_span(span, dim, run, acc);
    f32x16* s = span.s + span.count;
    const int n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (n == 4)
      scores<4>(q, k + at, capacity, dim, s);
    else if (n == 2)
      scores<2>(q, k + at, capacity, dim, s);
    else
      scores<1>(q, k + at, capacity, dim, s);
    for (int i = 0; i < n; ++i, at += kLane, ++span.count) {
      // What lies outside [begin, end) was never written or is out of the window: it is replaced, not used.
      const int from = static_cast<int>(std::max<int64_t>(begin - at, 0)),
                to = static_cast<int>(std::min<int64_t>(end - at, kLane));
      if (from > 0) s[i] = lane < from ? nothing : s[i];
      if (to < kLane) s[i] = lane >= to ? nothing : s[i];
      span.v[span.count] = v + at * dim;
      span.from[span.count] = from;
      span.to[span.count] = to;
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

template <class T>
FG_INLINE void attend_row(const DecodeAttentionArgs& a, int64_t r) {
  const DecodeSequence& s = *a.sequences[r];
  const int64_t dim = a.dim, group = a.heads / a.kv_heads, length = s.prompt.length + s.own.length + 1;
  const int64_t first = a.window > 0 ? std::max<int64_t>(0, length - a.window) : 0;
  const CacheSegment* segments[2] = {&s.prompt, &s.own};
  const int64_t begins[2] = {first, std::max<int64_t>(0, first - s.prompt.length)},
                ends[2] = {s.prompt.length, s.own.length + 1};
  for (int64_t h = 0; h < a.kv_heads; ++h) {
    const int64_t head = a.layer * a.kv_heads + h;
    append(a, s.own, head, static_cast<const T*>(a.k) + (r * a.kv_heads + h) * dim,
           static_cast<const T*>(a.v) + (r * a.kv_heads + h) * dim);
    for (int64_t g = h * group; g < (h + 1) * group; ++g) {
      float q[kMaxDim], acc[kMaxDim];
      const T* from = static_cast<const T*>(a.q) + (r * a.heads + g) * dim;
      for (int64_t d = 0; d < dim; ++d) q[d] = load(from + d) * a.scale, acc[d] = 0.0f;
      Running run;
      Span<T> span;
      for (int i = 0; i < 2; ++i) {
        const CacheSegment& c = *segments[i];
        add_segment(q, static_cast<const T*>(c.k) + head * dim * c.capacity,
                    static_cast<const T*>(c.v) + head * c.capacity * dim, begins[i], ends[i], c.capacity, dim, span,
                    run, acc);
      }
      add_span(span, dim, run, acc);
      T* to = static_cast<T*>(a.out) + (r * a.heads + g) * dim;
      for (int64_t d = 0; d < dim; ++d) store(to + d, acc[d] / run.sum);
    }
  }
}

template <class T>
FG_INLINE void attend_rows(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) attend_row<T>(a, r);
}

template <int kRows, int kVectors>  // it has no tiles of its own
FG_INLINE void attend_any(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  a.dtype == DType::f32 ? attend_rows<float>(a, begin, end) : attend_rows<bf16>(a, begin, end);
}

FG_TILED(void, attend_range, attend_any, (const DecodeAttentionArgs& a, int64_t begin, int64_t end), (a, begin, end))

}  // namespace

void decode_attention(const Context& context, const DecodeAttentionArgs& a) {
  parallel_for(context, a.rows, 1, [&](int64_t begin, int64_t end) { attend_range(a, begin, end); });
}

}  // namespace fg
