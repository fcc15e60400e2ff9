// act(gate) * up of a gated MLP, and the plain activation of GPT-2.
#include "kernels/model.h"

namespace fg {
namespace {

constexpr int64_t kRowsPerTask = 8;
constexpr float kSqrt2OverPi = 0.7978845608028654f, kSqrtHalf = 0.7071067811865476f, kInvSqrt2Pi = 0.3989422804014327f;

FG_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp_fast(-x)); }
FG_INLINE float tanh_fast(float x) {
  const float a = x < 0 ? -x : x;
  const float e = exp_fast(-2.0f * a);
  const float t = a < 0.04f ? a - a * a * a * (1.0f / 3.0f) : (1.0f - e) / (1.0f + e);  // the quotient cancels near 0
  return x < 0 ? -t : t;
}

struct Silu {
  static FG_INLINE float value(float x) { return x * sigmoid(x); }
  static FG_INLINE float slope(float x) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};
struct GeluTanh {
  static FG_INLINE float inner(float x) { return tanh_fast(kSqrt2OverPi * (x + 0.044715f * x * x * x)); }
  static FG_INLINE float value(float x) { return 0.5f * x * (1.0f + inner(x)); }
  static FG_INLINE float slope(float x) {
    const float t = inner(x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kSqrt2OverPi * (1.0f + 3.0f * 0.044715f * x * x);
  }
};
struct Gelu {
  static FG_INLINE float value(float x) { return 0.5f * x * (1.0f + std::erf(x * kSqrtHalf)); }
  static FG_INLINE float slope(float x) {
    return 0.5f * (1.0f + std::erf(x * kSqrtHalf)) + x * kInvSqrt2Pi * exp_fast(-0.5f * x * x);
  }
};
struct Relu {
  static FG_INLINE float value(float x) { return x > 0 ? x : 0.0f; }
  static FG_INLINE float slope(float x) { return x > 0 ? 1.0f : 0.0f; }
};

// A row goes through blocks of float32 on the stack: loops between a bfloat16 row and another one do not vectorise,
// since the compiler cannot know that the rows (gate, up and their gradients) do not overlap.
constexpr int64_t kBlock = 128;
struct Block {
  alignas(64) float x[kBlock];
};

// The last block of a row is computed in whole vectors: what is behind its end is zero and is not written.
FG_INLINE int64_t whole(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

template <class T>
FG_INLINE void read(const T* __restrict from, int64_t n, Block& to) {
  for (int64_t i = 0; i < n; ++i) to.x[i] = load(from + i);
  for (int64_t i = n; i < whole(n); ++i) to.x[i] = 0.0f;
}
template <class T>
FG_INLINE void write(const Block& from, int64_t n, T* __restrict to) {
  for (int64_t i = 0; i < n; ++i) store(to + i, from.x[i]);
}

/// y = act(x) or act(x) * up, n at most kBlock; `up` is null for the plain activation.
template <class T, class A>
FG_INLINE void forward_block(const T* x, const T* up, T* y, int64_t n) {
  Block g, u;
  const int64_t m = whole(n);
  read(x, n, g);
  for (int64_t i = 0; i < m; ++i) g.x[i] = A::value(g.x[i]);
  if (up) {
    read(up, n, u);
    for (int64_t i = 0; i < m; ++i) g.x[i] = rounded<T>(g.x[i]) * u.x[i];
  }
  write(g, n, y);
}

/// The gradients of forward_block by x and, when gated, by up.
template <class T, class A>
FG_INLINE void backward_block(const T* x, const T* up, const T* dy, T* dx, T* dup, int64_t n) {
  Block g, u, d;
  const int64_t m = whole(n);
  read(x, n, g);
  read(dy, n, d);
  if (up) {
    read(up, n, u);
    for (int64_t i = 0; i < m; ++i) u.x[i] *= d.x[i];
    for (int64_t i = 0; i < m; ++i) d.x[i] *= A::value(g.x[i]);
    write(d, n, dup);
  }
  const Block& outer = up ? u : d;
  for (int64_t i = 0; i < m; ++i) g.x[i] = outer.x[i] * A::slope(g.x[i]);
  write(g, n, dx);
}

template <class T, class A>
FG_INLINE void forward_rows(const ActivationArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width, wide = a.gated ? 2 * width : width;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * wide;
    const T* up = a.gated ? x + width : nullptr;
    T* y = static_cast<T*>(a.y) + r * width;
    int64_t i = 0;
    for (; i + kBlock <= width; i += kBlock) forward_block<T, A>(x + i, up ? up + i : up, y + i, kBlock);
    if (i < width) forward_block<T, A>(x + i, up ? up + i : up, y + i, width - i);
  }
}

template <class T, class A>
FG_INLINE void backward_rows(const ActivationArgs& a, int64_t begin, int64_t end) {
  const int64_t width = a.width, wide = a.gated ? 2 * width : width;
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * wide;
    const T* up = a.gated ? x + width : nullptr;
    const T* dy = static_cast<const T*>(a.dy) + r * width;
    T* dx = static_cast<T*>(a.y) + r * wide;
    auto block = [&](int64_t i, int64_t n) {
      backward_block<T, A>(x + i, up ? up + i : up, dy + i, dx + i, dx + width + i, n);
    };
    int64_t i = 0;
    for (; i + kBlock <= width; i += kBlock) block(i, kBlock);
    if (i < width) block(i, width - i);
  }
}

template <class T>
FG_INLINE void forward_typed(const ActivationArgs& a, int64_t begin, int64_t end) {
  switch (a.activation) {
    case Activation::silu:
      return forward_rows<T, Silu>(a, begin, end);
    case Activation::gelu_tanh:
      return forward_rows<T, GeluTanh>(a, begin, end);
    case Activation::gelu:
      return forward_rows<T, Gelu>(a, begin, end);
    case Activation::relu:
      return forward_rows<T, Relu>(a, begin, end);
  }
}
template <class T>
FG_INLINE void backward_typed(const ActivationArgs& a, int64_t begin, int64_t end) {
  switch (a.activation) {
    case Activation::silu:
      return backward_rows<T, Silu>(a, begin, end);
    case Activation::gelu_tanh:
      return backward_rows<T, GeluTanh>(a, begin, end);
    case Activation::gelu:
      return backward_rows<T, Gelu>(a, begin, end);
    case Activation::relu:
      return backward_rows<T, Relu>(a, begin, end);
  }
}

FG_CLONES void activate_range(const ActivationArgs& a, int64_t begin, int64_t end) {
  a.dtype == DType::f32 ? forward_typed<float>(a, begin, end) : forward_typed<bf16>(a, begin, end);
}
FG_CLONES void activate_gradient_range(const ActivationArgs& a, int64_t begin, int64_t end) {
  a.dtype == DType::f32 ? backward_typed<float>(a, begin, end) : backward_typed<bf16>(a, begin, end);
}

}  // namespace

void activation_forward(const Context& context, const ActivationArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask, [&](int64_t begin, int64_t end) { activate_range(a, begin, end); });
}
void activation_backward(const Context& context, const ActivationArgs& a) {
  parallel_for(context, a.rows, kRowsPerTask,
               [&](int64_t begin, int64_t end) { activate_gradient_range(a, begin, end); });
}

}  // namespace fg
