// Gradient norm and AdamW. Work is cut into chunks of kOptimizerChunk elements of one tensor; blocks stride over them.
#include "kernels/cuda/adamw.h"

#include "kernels/cuda/platform.h"
#include "math/adamw.h"

namespace fg::cuda {
namespace {

using kernels::AdamWTensor;
using kernels::kOptimizerChunk;

constexpr int kThreads = 256;         // of a chunk: part of the order of additions
constexpr int kFinishThreads = 1024;  // of the sum over chunks, likewise
constexpr int64_t kMaxBlocks = 4096;  // more than any device holds at once

struct Piece {
  AdamWTensor tensor;
  int64_t begin;
  int size;  // at most kOptimizerChunk
};

/// The last tensor whose first chunk is not after `chunk`; tensors without chunks are never it.
FG_DEVICE Piece find(const OptimizerTable& table, int64_t chunk) {
  int64_t low = 0, high = table.count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (load(table.first_chunk + middle) <= chunk)
      low = middle;
    else
      high = middle;
  }
  const AdamWTensor t = load(table.tensors + low);
  const int64_t begin = (chunk - load(table.first_chunk + low)) * kOptimizerChunk, left = t.size - begin;
  return {t, begin, int(left < kOptimizerChunk ? left : kOptimizerChunk)};
}

/// Elements before the next 16-byte boundary, at most `size`.
FG_DEVICE int head_of(const float* p, int size) {
  const int head = int((16 - (reinterpret_cast<uintptr_t>(p) & 15)) & 15) / 4;
  return head < size ? head : size;
}
FG_DEVICE bool aligned(const void* p, int bytes) { return (reinterpret_cast<uintptr_t>(p) & (bytes - 1)) == 0; }

FG_DEVICE double square(float x) { return double(x) * x; }

FG_DEVICE double sum_of_squares(const float* x, int size) {
  const int head = head_of(x, size), vectors = (size - head) / 4, tail = head + 4 * vectors;
  double sum = 0;
  if (thread() < head) sum += square(load(x + thread()));
  for (int i = thread(); i < vectors; i += kThreads) {
    const Vec16 v = load16(x + head + 4 * i);
    sum += square(bits_as_float(v.x)) + square(bits_as_float(v.y));
    sum += square(bits_as_float(v.z)) + square(bits_as_float(v.w));
  }
  if (thread() < size - tail) sum += square(load(x + tail + thread()));
  return sum;
}

/// The block's sum in a fixed order, in thread 0.
FG_DEVICE double block_sum(double v, Shared<double> of_warp) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  if (lane() == 0) of_warp[warp()] = v;
  sync();
  double sum = 0;
  if (thread() == 0)
    for (int w = 0; w < threads() / 32; ++w) sum += of_warp[w];
  sync();  // of_warp is free again
  return sum;
}

FG_KERNEL(kThreads, 4) sum_chunks(GradientNormArgs a) {
  FG_SHARED(double, of_warp, kThreads / 32);
  for (int64_t chunk = block(); chunk < a.table.chunks; chunk += blocks()) {
    const Piece p = find(a.table, chunk);
    const double sum = block_sum(sum_of_squares(p.tensor.gradient + p.begin, p.size), of_warp);
    if (thread() == 0) store(a.workspace + chunk, sum);
  }
}

/// One block. A second launch rather than "the last block adds up": no counter that somebody must have reset.
FG_KERNEL(kFinishThreads, 1) finish_norm(GradientNormArgs a) {
  FG_SHARED(double, of_warp, kFinishThreads / 32);
  double sum = 0;
  for (int64_t i = thread(); i < a.table.chunks; i += kFinishThreads) sum += load(a.workspace + i);
  sum = block_sum(sum, of_warp);
  if (thread() != 0) return;
  GradientNorm out;
  out.norm = std::sqrt(sum);
  out.skip = is_finite(sum) ? 0 : 1;
  out.scale = out.skip ? 0.0f : clip_scale(out.norm, a.max_norm);
  store(a.out, out);
}

/// Where the arrays of a piece begin.
struct Arrays {
  float* value;    // master or parameter
  uint16_t* bf16;  // the weights when `value` is a master, else null
  const float* gradient;
  float* moment1;
  float* moment2;
};

FG_DEVICE Arrays arrays_of(const Piece& p) {
  const AdamWTensor& t = p.tensor;
  const bool with_master = t.master != nullptr;
  return {(with_master ? t.master : static_cast<float*>(t.parameter)) + p.begin,
          with_master ? static_cast<uint16_t*>(t.parameter) + p.begin : nullptr, t.gradient + p.begin,
          t.moment1 + p.begin, t.moment2 + p.begin};
}

FG_DEVICE void update_one(const AdamWStep& step, const Arrays& a, int i) {
  float m = load(a.moment1 + i), v = load(a.moment2 + i);
  const float value = fg::adamw(step, load(a.value + i), load(a.gradient + i), m, v);
  store(a.value + i, value);
  store(a.moment1 + i, m);
  store(a.moment2 + i, v);
  if (a.bf16) store(a.bf16 + i, uint16_t(pack_bf16(value, 0.0f) & 0xFFFFu));
}

FG_DEVICE uint32_t update_bits(const AdamWStep& step, uint32_t value, uint32_t gradient, uint32_t& m, uint32_t& v) {
  float moment1 = bits_as_float(m), moment2 = bits_as_float(v);
  const float updated = fg::adamw(step, bits_as_float(value), bits_as_float(gradient), moment1, moment2);
  m = float_as_bits(moment1), v = float_as_bits(moment2);
  return float_as_bits(updated);
}

struct alignas(8) Vec8 {
  uint32_t x, y;
};

/// Four elements from `i`, where all arrays are aligned. Nothing is used a second time in this step: streaming.
FG_DEVICE void update_four(const AdamWStep& step, const Arrays& a, int i) {
  Vec16 p = load16(a.value + i, Cache::streaming), m = load16(a.moment1 + i, Cache::streaming);
  Vec16 v = load16(a.moment2 + i, Cache::streaming);
  const Vec16 g = load16(a.gradient + i, Cache::streaming);
  p.x = update_bits(step, p.x, g.x, m.x, v.x);
  p.y = update_bits(step, p.y, g.y, m.y, v.y);
  p.z = update_bits(step, p.z, g.z, m.z, v.z);
  p.w = update_bits(step, p.w, g.w, m.w, v.w);
  store16(a.value + i, p, Cache::streaming);
  store16(a.moment1 + i, m, Cache::streaming);
  store16(a.moment2 + i, v, Cache::streaming);
  if (!a.bf16) return;
  const Vec8 packed = {pack_bf16(bits_as_float(p.x), bits_as_float(p.y)),
                       pack_bf16(bits_as_float(p.z), bits_as_float(p.w))};
  store(reinterpret_cast<Vec8*>(a.bf16 + i), packed);  // normal: the next forward pass reads the weights
}

/// Vectors need one element at which every array is aligned; arrays that disagree (views into other memory) go one by
/// one.
FG_DEVICE void update(const AdamWStep& step, const Arrays& a, int size) {
  const int head = head_of(a.value, size);
  const bool together = aligned(a.gradient + head, 16) && aligned(a.moment1 + head, 16) &&
                        aligned(a.moment2 + head, 16) && (!a.bf16 || aligned(a.bf16 + head, 8));
  const int vectors = together ? (size - head) / 4 : 0, rest = together ? head + 4 * vectors : 0;
  if (together && thread() < head) update_one(step, a, thread());
  for (int i = thread(); i < vectors; i += kThreads) update_four(step, a, head + 4 * i);
  for (int i = rest + thread(); i < size; i += kThreads) update_one(step, a, i);
}

FG_KERNEL(kThreads, 4) update_chunks(AdamWArgs a) {
  AdamWStep step = a.step;
  if (a.norm) {
    const GradientNorm norm = load(a.norm);
    if (norm.skip) return;
    step.gradient_scale = norm.scale;
  }
  const float weight_decay = step.weight_decay;
  for (int64_t chunk = block(); chunk < a.table.chunks; chunk += blocks()) {
    const Piece p = find(a.table, chunk);
    step.weight_decay = p.tensor.decay ? weight_decay : 0.0f;
    update(step, arrays_of(p), p.size);
  }
}

Shape shape_of(const OptimizerTable& table) {
  return {table.chunks < kMaxBlocks ? table.chunks : kMaxBlocks, kThreads, 1, 0};
}

}  // namespace

Launch gradient_norm(const Context& context, const GradientNormArgs& args) {
  if (args.table.chunks > 0) {
    const Launch sums = FG_LAUNCH(sum_chunks, shape_of(args.table), context.stream, args);
    if (!sums.ok()) return sums;
  }
  return FG_LAUNCH(finish_norm, (Shape{1, kFinishThreads, 1, 0}), context.stream, args);
}

Launch adamw(const Context& context, const AdamWArgs& args) {
  if (args.table.chunks == 0) return {};
  return FG_LAUNCH(update_chunks, shape_of(args.table), context.stream, args);
}

}  // namespace fg::cuda
