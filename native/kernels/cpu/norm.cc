// RMSNorm and LayerNorm. As in transformers: statistics in float32, the normalised value is rounded to the storage type
// before an RMSNorm weight multiplies it (Llama) or is not (Gemma, LayerNorm).
#include <algorithm>

#include "kernels/model.h"

namespace fg {
namespace {

constexpr int64_t kRowsPerTask = 16;
constexpr int64_t kRowsPerPartial = 64;

template <class T>
FG_INLINE void forward_rows(const NormArgs& a, int64_t begin, int64_t end) {
  const T* w = static_cast<const T*>(a.weight);
  const T* b = static_cast<const T*>(a.bias);
  const bool round_first = !a.center && a.weight_offset == 0.0f;
  const int64_t n = a.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * a.x_stride;
    T* y = static_cast<T*>(a.y) + r * n;
    const float mean = a.center ? lane_sum(n, [&](int64_t i) { return load(x + i); }) / n : 0.0f;
    const float square = lane_sum(n,
                                  [&](int64_t i) {
                                    const float d = load(x + i) - mean;
                                    return d * d;
                                  }) /
                         n;
    const float rstd = 1.0f / std::sqrt(square + a.eps);
    if (a.rstd) a.rstd[r] = rstd;
    if (a.mean) a.mean[r] = mean;
    if (a.center) {
      for (int64_t i = 0; i < n; ++i)
        store(y + i, (load(x + i) - mean) * rstd * load(w + i) + (b ? load(b + i) : 0.0f));
    } else if (round_first) {
      for (int64_t i = 0; i < n; ++i) store(y + i, rounded<T>(load(x + i) * rstd) * load(w + i));
    } else {
      for (int64_t i = 0; i < n; ++i) store(y + i, load(x + i) * rstd * (a.weight_offset + load(w + i)));
    }
  }
}

FG_CLONES void norm_range(const NormArgs& a, int64_t begin, int64_t end) {
  a.dtype == DType::f32 ? forward_rows<float>(a, begin, end) : forward_rows<bf16>(a, begin, end);
}

// dx = rstd * (g - mean(g) [LayerNorm] - xhat * mean(g * xhat)) with g = dy * weight; dweight = sum dy * xhat; dbias =
// sum dy.
template <class T>
FG_INLINE void backward_rows(const NormGradArgs& g, int64_t begin, int64_t end, float* dw, float* db) {
  const NormArgs& a = g.forward;
  const T* w = static_cast<const T*>(a.weight);
  const int64_t n = a.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * a.x_stride;
    const T* dy = static_cast<const T*>(g.dy) + r * n;
    T* dx = static_cast<T*>(g.dx) + r * n;
    const float rstd = a.rstd[r], mean = a.center ? a.mean[r] : 0.0f, off = a.weight_offset;
    auto grad = [&](int64_t i) { return load(dy + i) * (off + load(w + i)); };
    auto hat = [&](int64_t i) { return (load(x + i) - mean) * rstd; };
    const float dot = lane_sum(n, [&](int64_t i) { return grad(i) * hat(i); }) / n;
    const float sum = a.center ? lane_sum(n, grad) / n : 0.0f;
    for (int64_t i = 0; i < n; ++i) {
      const float xhat = hat(i);
      dw[i] += load(dy + i) * xhat;
      store(dx + i, rstd * (grad(i) - sum - xhat * dot));
    }
    if (db)
      for (int64_t i = 0; i < n; ++i) db[i] += load(dy + i);
  }
}

FG_CLONES void norm_gradient_range(const NormGradArgs& g, int64_t begin, int64_t end, float* dw, float* db) {
  g.forward.dtype == DType::f32 ? backward_rows<float>(g, begin, end, dw, db)
                                : backward_rows<bf16>(g, begin, end, dw, db);
}

template <class T>
FG_INLINE void add_partials(const float* partials, int64_t count, int64_t stride, int64_t begin, int64_t end,
                            void* out) {
  for (int64_t i = begin; i < end; ++i) {
    float sum = 0.0f;
    for (int64_t p = 0; p < count; ++p) sum += partials[p * stride + i];
    store(static_cast<T*>(out) + i, sum);
  }
}

}  // namespace

void norm_forward(const Context& context, const NormArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) { norm_range(a, begin, end); });
}

int64_t norm_workspace(int64_t rows, int64_t width) {
  return (rows + kRowsPerPartial - 1) / kRowsPerPartial * 2 * width;
}

void norm_backward(const Context& context, const NormGradArgs& g) {
  const int64_t n = g.forward.width, partials = (g.forward.rows + kRowsPerPartial - 1) / kRowsPerPartial;
  parallel_for(context, g.forward.rows, kRowsPerPartial, [&](int64_t begin, int64_t end) {
    float* dw = g.workspace + begin / kRowsPerPartial * 2 * n;
    std::fill(dw, dw + 2 * n, 0.0f);
    norm_gradient_range(g, begin, end, dw, g.dbias ? dw + n : nullptr);
  });
  parallel_for(context, n, 256, [&](int64_t begin, int64_t end) {
    auto add = [&](const float* from, void* to) {
      g.forward.dtype == DType::f32 ? add_partials<float>(from, partials, 2 * n, begin, end, to)
                                    : add_partials<bf16>(from, partials, 2 * n, begin, end, to);
    };
    add(g.workspace, g.dweight);
    if (g.dbias) add(g.workspace + n, g.dbias);
  });
}

}  // namespace fg
