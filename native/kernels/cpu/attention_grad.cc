// The gradient of attention. With P = exp(scores - lse): dV = P^T dO, dS = P (dO V^T - rowsum(dO O)), dQ = dS K, dK =
// dS^T Q (FlashAttention, arXiv 2205.14135, appendix B.2). Segments write the gradient of their own keys, and what they
// add to their prefix's into the workspace.
#include <vector>

#include "kernels/cpu/attention_tile.h"

namespace fg {
namespace {

struct Buffers {
  float *keys_t, *values_t, *keys, *query, *dout, *scores, *dscores, *dquery, *dkeys, *dvalues;
  int64_t padded, ld;
  static int64_t floats(int64_t total, int64_t dim) {
    const int64_t padded = round_lanes(dim), ld = round_lanes(total) + kLane;
    return 2 * dim * ld + 3 * total * padded + 3 * kQueries * padded + 2 * kQueries * ld;
  }
  Buffers(float* memory, int64_t total, int64_t dim) : padded(round_lanes(dim)), ld(round_lanes(total) + kLane) {
    auto take = [&](int64_t n) { return memory += n, memory - n; };
    scores = take(kQueries * ld);
    dscores = take(kQueries * ld);
    query = take(kQueries * padded);
    dout = take(kQueries * padded);
    dquery = take(kQueries * padded);
    keys = take(total * padded);
    dkeys = take(total * padded);
    dvalues = take(total * padded);
    keys_t = take(dim * ld);
    values_t = take(dim * ld);
  }
};

/// Row sums of dO O.
template <class T>
FG_INLINE void deltas(const AttentionGradArgs& g, int64_t row, int64_t rows, int64_t head, float* delta) {
  const AttentionArgs& a = g.forward;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = ((row + r) * a.heads + head) * a.dim;
    const T *out = static_cast<const T*>(a.out) + at, *dout = static_cast<const T*>(g.dout) + at;
    delta[r] = lane_sum(a.dim, [&](int64_t d) { return load(out + d) * load(dout + d); });
  }
}

template <class T, int kRows, int kVectors>
FG_INLINE void backward_tile(const AttentionGradArgs& g, const KeyRange& keys, const Tile& t, int64_t head,
                             const Buffers& b) {
  const AttentionArgs& a = g.forward;
  const int64_t row = keys.begin + t.first, stride = a.heads * a.dim, at = row * stride + head * a.dim;
  const int64_t seen = t.high - t.low;
  read_rows(static_cast<const T*>(a.q) + at, stride, t.rows, a.dim, b.padded, a.scale, b.query);
  read_rows(static_cast<const T*>(g.dout) + at, stride, t.rows, a.dim, b.padded, 1.0f, b.dout);
  float delta[kQueries];
  deltas<T>(g, row, t.rows, head, delta);
  tile_product<kRows, kVectors>(
      {t.rows, t.width, a.dim, b.query, b.padded, 1, b.keys_t + t.low, b.ld, b.scores, b.ld, false});
  tile_product<kRows, kVectors>(
      {t.rows, t.width, a.dim, b.dout, b.padded, 1, b.values_t + t.low, b.ld, b.dscores, b.ld, false});
  for (int64_t r = 0; r < t.rows; ++r) {
    const float lse = a.lse[(row + r) * a.heads + head];
    float *score = b.scores + r * b.ld, *dscore = b.dscores + r * b.ld;
    hide(score, t, t.from(a, keys, r), t.to(keys, r));
    for (int64_t c = 0; c < t.width; c += kLane) {
      const f32x16 p = exp_fast(load_vector<f32x16>(score + c) - lse);
      const f32x16 ds = p * (load_vector<f32x16>(dscore + c) - delta[r]);
      __builtin_memcpy(score + c, &p, sizeof p);
      __builtin_memcpy(dscore + c, &ds, sizeof ds);
    }
  }
  const int64_t low = t.low * b.padded;
  tile_product<kRows, kVectors>(
      {seen, b.padded, t.rows, b.scores, 1, b.ld, b.dout, b.padded, b.dvalues + low, b.padded, true});
  tile_product<kRows, kVectors>(
      {seen, b.padded, t.rows, b.dscores, 1, b.ld, b.query, b.padded, b.dkeys + low, b.padded, true});
  tile_product<kRows, kVectors>(
      {t.rows, b.padded, seen, b.dscores, b.ld, 1, b.keys + low, b.padded, b.dquery, b.padded, false});
  T* dq = static_cast<T*>(g.dq) + at;
  for (int64_t r = 0; r < t.rows; ++r, dq += stride)
    for (int64_t d = 0; d < a.dim; ++d) store(dq + d, b.dquery[r * b.padded + d] * a.scale);
}

/// Where a task leaves the gradient of shared keys: (rows, 2, dim), first keys, then values. Null: nothing is shared.
struct Shared {
  float *own, *prefix;
};

FG_INLINE void keep(const float* dkeys, const float* dvalues, int64_t rows, int64_t padded, int64_t dim, float* to) {
  for (int64_t r = 0; r < rows; ++r, to += 2 * dim) {
    std::copy_n(dkeys + r * padded, dim, to);
    std::copy_n(dvalues + r * padded, dim, to + dim);
  }
}

template <class T, int kRows, int kVectors>
FG_INLINE void backward_task(const AttentionGradArgs& g, const KeyRange& keys, int64_t kv_head, const Shared& shared,
                             float* memory) {
  const AttentionArgs& a = g.forward;
  const Buffers b(memory, keys.total(), a.dim);
  const int64_t stride = a.kv_heads * a.dim, group = a.heads / a.kv_heads, prefix = keys.prefix * b.padded;
  const T *k = static_cast<const T*>(a.k) + kv_head * a.dim, *v = static_cast<const T*>(a.v) + kv_head * a.dim;
  read_keys_transposed(k, keys, stride, a.dim, b.ld, b.keys_t);
  read_keys_transposed(v, keys, stride, a.dim, b.ld, b.values_t);
  read_keys(k, keys, stride, a.dim, b.padded, b.keys);
  std::fill_n(b.dkeys, keys.total() * b.padded, 0.0f);
  std::fill_n(b.dvalues, keys.total() * b.padded, 0.0f);
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
    for (int64_t first = 0; first < keys.own; first += kQueries)
      backward_tile<T, kRows, kVectors>(g, keys, tile_of(a, keys, first), head, b);
  if (shared.prefix) keep(b.dkeys, b.dvalues, keys.prefix, b.padded, a.dim, shared.prefix);
  if (shared.own) return keep(b.dkeys + prefix, b.dvalues + prefix, keys.own, b.padded, a.dim, shared.own);
  const int64_t at = keys.begin * stride + kv_head * a.dim;
  write_rows(b.dkeys + prefix, b.padded, keys.own, a.dim, static_cast<T*>(g.dk) + at, stride);
  write_rows(b.dvalues + prefix, b.padded, keys.own, a.dim, static_cast<T*>(g.dv) + at, stride);
}

template <int kRows, int kVectors>
FG_INLINE void backward_any(const AttentionGradArgs& g, const KeyRange& keys, int64_t kv_head, const Shared& shared,
                            float* memory) {
  g.forward.dtype == DType::f32 ? backward_task<float, kRows, kVectors>(g, keys, kv_head, shared, memory)
                                : backward_task<bf16, kRows, kVectors>(g, keys, kv_head, shared, memory);
}

FG_TILED(void, backward, backward_any,
         (const AttentionGradArgs& g, const KeyRange& keys, int64_t kv_head, const Shared& shared, float* memory),
         (g, keys, kv_head, shared, memory))

/// Where each segment's part of the workspace begins, in rows of 2 dim floats per key/value head; -1: it has none.
struct Places {
  std::vector<int64_t> own, prefix;
  int64_t rows = 0;

  explicit Places(const AttentionArgs& a) : own(a.count, -1), prefix(a.count, -1) {
    for (int64_t s = 0; s < a.count; ++s) {
      const int64_t p = a.segments[s].prefix;
      if (p < 0) continue;
      if (own[p] < 0) own[p] = take(a.segments[p].length());
      prefix[s] = take(a.segments[p].length());
    }
  }

 private:
  int64_t take(int64_t n) { return rows += n, rows - n; }
};

/// Sums what the prefix's own queries and those of its followers left.
template <class T>
void add_shared(const AttentionGradArgs& g, const Places& places, int64_t segment,
                const std::vector<int64_t>& followers) {
  const AttentionArgs& a = g.forward;
  const int64_t n = 2 * a.dim, width = a.kv_heads * n, rows = a.segments[segment].length();
  for (int64_t head = 0; head < a.kv_heads; ++head) {
    float* sum = g.workspace + places.own[segment] * width + head * rows * n;
    for (const int64_t f : followers) {
      const float* part = g.workspace + places.prefix[f] * width + head * rows * n;
      for (int64_t i = 0; i < rows * n; ++i) sum[i] += part[i];
    }
    const int64_t stride = a.kv_heads * a.dim, at = a.segments[segment].begin * stride + head * a.dim;
    write_rows(sum, n, rows, a.dim, static_cast<T*>(g.dk) + at, stride);
    write_rows(sum + a.dim, n, rows, a.dim, static_cast<T*>(g.dv) + at, stride);
  }
}

}  // namespace

int64_t attention_workspace(const AttentionArgs& a) { return Places(a).rows * a.kv_heads * 2 * a.dim; }

void attention_backward(const Context& context, const AttentionGradArgs& g) {
  const AttentionArgs& a = g.forward;
  const Places places(a);
  const int64_t width = a.kv_heads * 2 * a.dim;
  // A segment's part of the workspace: (kv_heads, rows, 2 dim).
  const auto part = [&](int64_t place, int64_t head, int64_t rows) {
    return place < 0 ? nullptr : g.workspace + place * width + head * rows * 2 * a.dim;
  };
  parallel_for(context, a.count * a.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t s = task / a.kv_heads, head = task % a.kv_heads;
      const KeyRange keys = keys_of(a, a.segments[s]);
      const int64_t bytes = Buffers::floats(keys.total(), a.dim) * static_cast<int64_t>(sizeof(float));
      backward(g, keys, head, {part(places.own[s], head, keys.own), part(places.prefix[s], head, keys.prefix)},
               static_cast<float*>(context.scratch(bytes)));
    }
  });
  std::vector<std::vector<int64_t>> followers(static_cast<size_t>(a.count));
  for (int64_t s = 0; s < a.count; ++s)
    if (a.segments[s].prefix >= 0) followers[a.segments[s].prefix].push_back(s);
  parallel_for(context, a.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      if (places.own[s] >= 0)
        a.dtype == DType::f32 ? add_shared<float>(g, places, s, followers[s])
                              : add_shared<bf16>(g, places, s, followers[s]);
  });
}

}  // namespace fg
