// Splits joint q/k/v rows into heads, normalises the heads (Qwen3, Gemma 3) and rotates them: pair (i, i + dim/2), the
// convention of Hugging Face checkpoints. The gradient rotates back.
#include <algorithm>

#include "kernels/model.h"

namespace fg {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr int64_t kRowsPerPartial = 64;
constexpr int64_t kMaxDim = 1024;  // checked where the configuration is read

/// The rotation of the halves of a head; nothing overlaps, which is what lets it vectorise.
template <class T, class In>
FG_INLINE void rotate(const In* __restrict lo, const In* __restrict hi, const float* __restrict cos,
                      const float* __restrict sin, T* __restrict y_lo, T* __restrict y_hi, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = load(lo + i), b = load(hi + i), c = rounded<T>(cos[i]), s = rounded<T>(sin[i]);
    store(y_lo + i, rounded<T>(a * c) - rounded<T>(b * s));
    store(y_hi + i, rounded<T>(b * c) + rounded<T>(a * s));
  }
}

/// And back, without rounding in between.
template <class T, class Out>
FG_INLINE void rotate_back(const T* __restrict lo, const T* __restrict hi, const float* __restrict cos,
                           const float* __restrict sin, Out* __restrict x_lo, Out* __restrict x_hi, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = load(lo + i), b = load(hi + i), c = rounded<T>(cos[i]), s = rounded<T>(sin[i]);
    store(x_lo + i, a * c + b * s);
    store(x_hi + i, b * c - a * s);
  }
}

/// One head: y = rotate(norm(x)); every intermediate is rounded to the storage type, as separate tensor operations
/// would.
template <class T>
FG_INLINE float head_forward(const RopeArgs& a, const T* x, const T* w, const float* cos, const float* sin, T* y) {
  const int64_t d = a.dim, half = d / 2;
  if (!w) {
    if (cos)
      rotate(x, x + half, cos, sin, y, y + half, half);
    else
      std::copy(x, x + d, y);
    return 1.0f;
  }
  const float rstd = 1.0f / std::sqrt(lane_sum(d, [&](int64_t i) { return load(x + i) * load(x + i); }) / d + a.eps);
  float normed[kMaxDim];
  for (int64_t i = 0; i < d; ++i) {
    const float xhat = load(x + i) * rstd;
    normed[i] = a.weight_offset == 0.0f ? rounded<T>(rounded<T>(xhat) * load(w + i))
                                        : rounded<T>(xhat * (a.weight_offset + load(w + i)));
  }
  if (cos)
    rotate(normed, normed + half, cos, sin, y, y + half, half);
  else
    for (int64_t i = 0; i < d; ++i) store(y + i, normed[i]);
  return rstd;
}

template <class T>
FG_INLINE void forward_rows(const RopeArgs& a, int64_t begin, int64_t end) {
  const int64_t d = a.dim, half = d / 2, total = a.heads + 2 * a.kv_heads;
  for (int64_t r = begin; r < end; ++r) {
    const T* row = static_cast<const T*>(a.qkv) + r * total * d;
    const int64_t p = a.positions[r];
    const float* cos = a.cos ? a.cos + p * half : nullptr;
    const float* sin = a.cos ? a.sin + p * half : nullptr;
    float* rstd = a.rstd ? a.rstd + r * (a.heads + a.kv_heads) : nullptr;
    T* q = static_cast<T*>(a.q) + r * a.heads * d;
    T* k = static_cast<T*>(a.k) + r * a.kv_heads * d;
    for (int64_t h = 0; h < a.heads; ++h) {
      const float s = head_forward(a, row + h * d, static_cast<const T*>(a.q_norm), cos, sin, q + h * d);
      if (rstd) rstd[h] = s;
    }
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      const float s = head_forward(a, row + (a.heads + h) * d, static_cast<const T*>(a.k_norm), cos, sin, k + h * d);
      if (rstd) rstd[a.heads + h] = s;
    }
    const T* v = row + (a.heads + a.kv_heads) * d;
    std::copy(v, v + a.kv_heads * d, static_cast<T*>(a.v) + r * a.kv_heads * d);
  }
}

FG_CLONES void split_range(const RopeArgs& a, int64_t begin, int64_t end) {
  a.dtype == DType::f32 ? forward_rows<float>(a, begin, end) : forward_rows<bf16>(a, begin, end);
}

/// The gradient of one head; `scratch` (dim floats) holds the gradient before the head norm.
template <class T>
FG_INLINE void head_backward(const RopeArgs& a, const T* dy, const T* x, const T* w, float rstd, const float* cos,
                             const float* sin, T* dx, float* dw, float* scratch) {
  const int64_t d = a.dim, half = d / 2;
  if (!w) {
    if (cos)
      rotate_back(dy, dy + half, cos, sin, dx, dx + half, half);
    else
      std::copy(dy, dy + d, dx);
    return;
  }
  if (cos)
    rotate_back(dy, dy + half, cos, sin, scratch, scratch + half, half);
  else
    for (int64_t i = 0; i < d; ++i) scratch[i] = load(dy + i);
  const float off = a.weight_offset;
  const float dot = lane_sum(d, [&](int64_t i) { return scratch[i] * (off + load(w + i)) * load(x + i) * rstd; }) / d;
  for (int64_t i = 0; i < d; ++i) {
    const float xhat = load(x + i) * rstd;
    dw[i] += scratch[i] * xhat;
    store(dx + i, rstd * (scratch[i] * (off + load(w + i)) - xhat * dot));
  }
}

template <class T>
FG_INLINE void backward_rows(const RopeGradArgs& g, int64_t begin, int64_t end, float* dwq, float* dwk) {
  const RopeArgs& a = g.forward;
  const int64_t d = a.dim, half = d / 2, total = a.heads + 2 * a.kv_heads;
  float scratch[kMaxDim];
  for (int64_t r = begin; r < end; ++r) {
    const int64_t p = a.positions[r];
    const T* row = static_cast<const T*>(a.qkv) + r * total * d;
    T* out = static_cast<T*>(g.dqkv) + r * total * d;
    const float* cos = a.cos ? a.cos + p * half : nullptr;
    const float* sin = a.cos ? a.sin + p * half : nullptr;
    const float* rstd = a.rstd ? a.rstd + r * (a.heads + a.kv_heads) : nullptr;
    const T* dq = static_cast<const T*>(g.dq) + r * a.heads * d;
    const T* dk = static_cast<const T*>(g.dk) + r * a.kv_heads * d;
    const T* dv = static_cast<const T*>(g.dv) + r * a.kv_heads * d;
    for (int64_t h = 0; h < a.heads; ++h)
      head_backward(a, dq + h * d, row + h * d, static_cast<const T*>(a.q_norm), rstd ? rstd[h] : 1.0f, cos, sin,
                    out + h * d, dwq, scratch);
    for (int64_t h = 0; h < a.kv_heads; ++h)
      head_backward(a, dk + h * d, row + (a.heads + h) * d, static_cast<const T*>(a.k_norm),
                    rstd ? rstd[a.heads + h] : 1.0f, cos, sin, out + (a.heads + h) * d, dwk, scratch);
    std::copy(dv, dv + a.kv_heads * d, out + (a.heads + a.kv_heads) * d);
  }
}

FG_CLONES void split_gradient_range(const RopeGradArgs& g, int64_t begin, int64_t end, float* dwq, float* dwk) {
  g.forward.dtype == DType::f32 ? backward_rows<float>(g, begin, end, dwq, dwk)
                                : backward_rows<bf16>(g, begin, end, dwq, dwk);
}

template <class T>
void add_partials(const float* partials, int64_t count, int64_t stride, int64_t width, void* out) {
  for (int64_t i = 0; i < width; ++i) {
    float sum = 0.0f;
    for (int64_t p = 0; p < count; ++p) sum += partials[p * stride + i];
    store(static_cast<T*>(out) + i, sum);
  }
}

}  // namespace

void rope_forward(const Context& context, const RopeArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) { split_range(a, begin, end); });
}

int64_t rope_workspace(int64_t rows, int64_t dim) { return (rows + kRowsPerPartial - 1) / kRowsPerPartial * 2 * dim; }

void rope_backward(const Context& context, const RopeGradArgs& g) {
  const int64_t d = g.forward.dim, partials = (g.forward.rows + kRowsPerPartial - 1) / kRowsPerPartial;
  const bool norms = g.dq_norm != nullptr;
  parallel_for(context, g.forward.rows, kRowsPerPartial, [&](int64_t begin, int64_t end) {
    float* dw = norms ? g.workspace + begin / kRowsPerPartial * 2 * d : nullptr;
    if (norms) std::fill(dw, dw + 2 * d, 0.0f);
    split_gradient_range(g, begin, end, dw, norms ? dw + d : nullptr);
  });
  if (!norms) return;
  auto add = [&](const float* from, void* to) {
    g.forward.dtype == DType::f32 ? add_partials<float>(from, partials, 2 * d, d, to)
                                  : add_partials<bf16>(from, partials, 2 * d, d, to);
  };
  add(g.workspace, g.dq_norm);
  add(g.workspace + d, g.dk_norm);
}

}  // namespace fg
