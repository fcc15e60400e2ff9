#include "kernels/adamw.h"

#include <cmath>
#include <cstring>

#include "kernels/scalar.h"

namespace fg::kernels {
namespace {

/// Calls fn(tensor, begin, end, chunk index) for every chunk of every tensor that has a gradient.
template <class Fn>
void for_each_chunk(const Context& context, const AdamWTensor* tensors, int64_t count, Fn fn) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += chunks_of(tensors[i]);
  parallel_for(context, total, 1, [&](int64_t begin, int64_t end) {
    int64_t first = 0, i = 0;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      while (chunk >= first + chunks_of(tensors[i])) first += chunks_of(tensors[i++]);
      const int64_t at = (chunk - first) * kOptimizerChunk;
      const int64_t left = tensors[i].size - at;
      fn(tensors[i], at, at + (left < kOptimizerChunk ? left : kOptimizerChunk), chunk);
    }
  });
}

FG_CLONES double sum_of_squares(const float* x, int64_t n) {
  constexpr int kLanes = 16;  // a fixed order of additions that vectorises
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(x[i + l]) * x[i + l];
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  for (double lane : lanes) sum += lane;
  return sum;
}

FG_CLONES void update(const AdamWStep& step, float* __restrict p, const float* __restrict g, float* __restrict m,
                      float* __restrict v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = adamw(step, p[i], g[i], m[i], v[i]);
}

/// Round to nearest even; finite inputs only (the caller refuses non-finite gradients).
FG_CLONES void round_to_bfloat16(const float* __restrict x, uint16_t* __restrict out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    out[i] = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

}  // namespace

int64_t gradient_norm_workspace(const AdamWTensor* tensors, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += chunks_of(tensors[i]);
  return total;
}

double gradient_norm(const Context& context, const AdamWTensor* tensors, int64_t count, double* workspace) {
  for_each_chunk(context, tensors, count, [&](const AdamWTensor& tensor, int64_t begin, int64_t end, int64_t chunk) {
    workspace[chunk] = sum_of_squares(tensor.gradient + begin, end - begin);
  });
  double sum = 0;
  const int64_t total = gradient_norm_workspace(tensors, count);
  for (int64_t i = 0; i < total; ++i) sum += workspace[i];
  return std::sqrt(sum);
}

void adamw(const Context& context, const AdamWTensor* tensors, int64_t count, const AdamWStep& step) {
  AdamWStep without_decay = step;
  without_decay.weight_decay = 0;
  for_each_chunk(context, tensors, count, [&](const AdamWTensor& t, int64_t begin, int64_t end, int64_t) {
    float* p = t.master ? t.master : static_cast<float*>(t.parameter);
    update(t.decay ? step : without_decay, p + begin, t.gradient + begin, t.moment1 + begin, t.moment2 + begin,
           end - begin);
    if (t.master) round_to_bfloat16(p + begin, static_cast<uint16_t*>(t.parameter) + begin, end - begin);
  });
}

}  // namespace fg::kernels
