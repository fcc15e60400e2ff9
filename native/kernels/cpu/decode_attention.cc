// Attention of one query per sequence over its own cache length: no padding, no mask, online softmax over blocks of 64 positions.
#include <algorithm>

#include "kernels/decode.h"

namespace fg {
namespace {

struct Running {
  float max = -INFINITY, sum = 0.0f;
};

/// Adds positions [begin, end) of one segment and head to the running softmax; acc (dim) is the unnormalised output.
template <class T, int kDim>
FG_INLINE void add_segment(const float* q, const T* k, const T* v, int64_t begin, int64_t end, int64_t capacity, int64_t dynamic_dim,
                           Running& run, float* acc) {
  const int64_t dim = kDim ? kDim : dynamic_dim;
  for (int64_t block = begin / kCacheBlock * kCacheBlock; block < end; block += kCacheBlock) {
    float s[kCacheBlock] = {};
    for (int64_t d = 0; d < dim; ++d) {
      const float qd = q[d];
      const T* row = k + d * capacity + block;
      for (int j = 0; j < kCacheBlock; ++j) s[j] += qd * load(row + j);
    }
    // What the block holds outside [begin, end) was never written or is out of the window: it is replaced, not used.
    const int from = static_cast<int>(std::max<int64_t>(begin - block, 0)), to = static_cast<int>(std::min(end - block, kCacheBlock));
    float lanes[kLanes];
    for (int j = 0; j < kLanes; ++j) lanes[j] = -INFINITY;
    for (int j = 0; j < kCacheBlock; ++j) s[j] = j >= from && j < to ? s[j] : -INFINITY;
    for (int j = 0; j < kCacheBlock; ++j) lanes[j % kLanes] = s[j] > lanes[j % kLanes] ? s[j] : lanes[j % kLanes];
    float top = lanes[0];
    for (int j = 1; j < kLanes; ++j) top = lanes[j] > top ? lanes[j] : top;
    if (top > run.max) {
      const float scale = exp_fast(run.max - top);
      run.sum *= scale;
      for (int64_t d = 0; d < dim; ++d) acc[d] *= scale;
      run.max = top;
    }
    if (run.max == -INFINITY) continue;
    for (int j = 0; j < kCacheBlock; ++j) s[j] = exp_fast(s[j] - run.max);
    run.sum += lane_sum(kCacheBlock, [&](int64_t j) { return s[j]; });
    for (int j = from; j < to; ++j) {
      const T* row = v + (block + j) * dim;
      const float p = s[j];
      for (int64_t d = 0; d < dim; ++d) acc[d] += p * load(row + d);
    }
  }
}

template <class T>
FG_INLINE void append(const DecodeAttentionArgs& a, const CacheSegment& own, int64_t head_offset, const T* k, const T* v) {
  T* keys = static_cast<T*>(own.k) + head_offset * a.dim * own.capacity + own.length;
  T* values = static_cast<T*>(own.v) + (head_offset * own.capacity + own.length) * a.dim;
  for (int64_t d = 0; d < a.dim; ++d) keys[d * own.capacity] = k[d];
  std::copy(v, v + a.dim, values);
}

template <class T, int kDim>
FG_INLINE void attend_row(const DecodeAttentionArgs& a, int64_t r) {
  const DecodeSequence& s = *a.sequences[r];
  const int64_t dim = kDim ? kDim : a.dim, group = a.heads / a.kv_heads, length = s.prompt.length + s.own.length + 1;
  const int64_t first = a.window > 0 ? std::max<int64_t>(0, length - a.window) : 0;
  const int64_t own_first = std::max<int64_t>(0, first - s.prompt.length);
  for (int64_t h = 0; h < a.kv_heads; ++h) {
    const int64_t head = a.layer * a.kv_heads + h;
    append(a, s.own, head, static_cast<const T*>(a.k) + (r * a.kv_heads + h) * dim, static_cast<const T*>(a.v) + (r * a.kv_heads + h) * dim);
    for (int64_t g = h * group; g < (h + 1) * group; ++g) {
      float q[kDim ? kDim : 1024], acc[kDim ? kDim : 1024];
      const T* from = static_cast<const T*>(a.q) + (r * a.heads + g) * dim;
      for (int64_t d = 0; d < dim; ++d) q[d] = load(from + d) * a.scale, acc[d] = 0.0f;
      Running run;
      auto add = [&](const CacheSegment& c, int64_t begin, int64_t end) {
        add_segment<T, kDim>(q, static_cast<const T*>(c.k) + head * dim * c.capacity, static_cast<const T*>(c.v) + head * c.capacity * dim,
                             begin, end, c.capacity, dim, run, acc);
      };
      if (first < s.prompt.length) add(s.prompt, first, s.prompt.length);
      add(s.own, own_first, s.own.length + 1);
      T* to = static_cast<T*>(a.out) + (r * a.heads + g) * dim;
      for (int64_t d = 0; d < dim; ++d) store(to + d, acc[d] / run.sum);
    }
  }
}

template <class T>
FG_INLINE void attend_rows(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) switch (a.dim) {
      case 8: attend_row<T, 8>(a, r); break;
      case 16: attend_row<T, 16>(a, r); break;
      case 32: attend_row<T, 32>(a, r); break;
      case 64: attend_row<T, 64>(a, r); break;
      case 128: attend_row<T, 128>(a, r); break;
      default: attend_row<T, 0>(a, r);
    }
}

FG_CLONES void attend_range(const DecodeAttentionArgs& a, int64_t begin, int64_t end) {
  a.storage == Storage::f32 ? attend_rows<float>(a, begin, end) : attend_rows<bf16>(a, begin, end);
}

}  // namespace

void decode_attention(const Context& context, const DecodeAttentionArgs& a) {
  parallel_for(context, a.rows, 1, [&](int64_t begin, int64_t end) { attend_range(a, begin, end); });
}

}  // namespace fg
