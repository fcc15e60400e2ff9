// Forward attention: a tile of queries against all their keys, whose scores stay in cache.
#include "kernels/cpu/attention_tile.h"

namespace fg {
namespace {

/// Floats of a task's buffers.
struct Buffers {
  float *keys, *values, *query, *scores, *out;
  int64_t padded, ld;
  static int64_t floats(int64_t total, int64_t dim) {
    const int64_t padded = round_lanes(dim), ld = round_lanes(total) + kLane;
    return dim * ld + total * padded + 2 * kQueries * padded + kQueries * ld;
  }
  Buffers(float* memory, int64_t total, int64_t dim) : padded(round_lanes(dim)), ld(round_lanes(total) + kLane) {
    scores = memory;
    query = scores + kQueries * ld;
    out = query + kQueries * padded;
    values = out + kQueries * padded;
    keys = values + total * padded;
  }
};

/// Scores -> exp(score - maximum); returns the sum and the maximum.
FG_INLINE float exponentials(float* row, int64_t width, float& max) {
  f32x16 top = load_vector<f32x16>(row);
  for (int64_t c = kLane; c < width; c += kLane) {
    const f32x16 x = load_vector<f32x16>(row + c);
    top = x > top ? x : top;
  }
  max = lane_max(top);
  f32x16 sum = {};
  for (int64_t c = 0; c < width; c += kLane) {
    const f32x16 e = exp_fast(load_vector<f32x16>(row + c) - max);
    sum += e;
    __builtin_memcpy(row + c, &e, sizeof e);
  }
  return lane_total(sum);
}

template <class T, int kRows, int kVectors>
FG_INLINE void forward_tile(const AttentionArgs& a, const KeyRange& keys, const Tile& t, int64_t head,
                            const Buffers& b) {
  const int64_t row = keys.begin + t.first, stride = a.heads * a.dim;
  read_rows(static_cast<const T*>(a.q) + row * stride + head * a.dim, stride, t.rows, a.dim, b.padded, a.scale,
            b.query);
  tile_product<kRows, kVectors>(
      {t.rows, t.width, a.dim, b.query, b.padded, 1, b.keys + t.low, b.ld, b.scores, b.ld, false});
  float inverse[kQueries];
  for (int64_t r = 0; r < t.rows; ++r) {
    float max;
    hide(b.scores + r * b.ld, t, t.from(a, keys, r), t.to(keys, r));
    const float sum = exponentials(b.scores + r * b.ld, t.width, max);
    inverse[r] = 1.0f / sum;
    if (a.lse) a.lse[(row + r) * a.heads + head] = max + std::log(sum);
  }
  tile_product<kRows, kVectors>({t.rows, b.padded, t.high - t.low, b.scores, b.ld, 1, b.values + t.low * b.padded,
                                 b.padded, b.out, b.padded, false});
  T* out = static_cast<T*>(a.out) + row * stride + head * a.dim;
  for (int64_t r = 0; r < t.rows; ++r, out += stride)
    for (int64_t d = 0; d < a.dim; ++d) store(out + d, b.out[r * b.padded + d] * inverse[r]);
}

/// One segment and key/value head, with the query heads that share it.
template <class T, int kRows, int kVectors>
FG_INLINE void forward_task(const AttentionArgs& a, const KeyRange& keys, int64_t kv_head, float* memory) {
  const Buffers b(memory, keys.total(), a.dim);
  const int64_t stride = a.kv_heads * a.dim, group = a.heads / a.kv_heads;
  read_keys_transposed(static_cast<const T*>(a.k) + kv_head * a.dim, keys, stride, a.dim, b.ld, b.keys);
  read_keys(static_cast<const T*>(a.v) + kv_head * a.dim, keys, stride, a.dim, b.padded, b.values);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
    for (int64_t first = 0; first < keys.own; first += kQueries)
      forward_tile<T, kRows, kVectors>(a, keys, tile_of(a, keys, first), head, b);
}

template <int kRows, int kVectors>
FG_INLINE void forward_any(const AttentionArgs& a, const KeyRange& keys, int64_t kv_head, float* memory) {
  a.dtype == DType::f32 ? forward_task<float, kRows, kVectors>(a, keys, kv_head, memory)
                        : forward_task<bf16, kRows, kVectors>(a, keys, kv_head, memory);
}

FG_TILED(void, forward, forward_any, (const AttentionArgs& a, const KeyRange& keys, int64_t kv_head, float* memory),
         (a, keys, kv_head, memory))

}  // namespace

void attention_forward(const Context& context, const AttentionArgs& a) {
  parallel_for(context, a.count * a.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const KeyRange keys = keys_of(a, a.segments[task / a.kv_heads]);
      const int64_t bytes = Buffers::floats(keys.total(), a.dim) * static_cast<int64_t>(sizeof(float));
      forward(a, keys, task % a.kv_heads, static_cast<float*>(context.scratch(bytes)));
    }
  });
}

}  // namespace fg
