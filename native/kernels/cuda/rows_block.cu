// One block per row, any device: vectors of 16 bytes, one exponential per logit and pass, the second read served by L2
// (as few rows are in flight as fit there). Also the forward-only kernel of every device: there is nothing to keep on
// chip.
#include "kernels/cuda/row_format.h"
#include "kernels/cuda/row_step.h"

namespace fg::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kBatch = 4;  // vectors loaded before any is used

template <DType D, bool kEntropy>
FG_DEVICE void add_vector(Sums& s, const Vec16& v, float scale) {
  float f[Format<D>::kPer];
  Format<D>::unpack(v, f);
  FG_UNROLL
  for (int i = 0; i < Format<D>::kPer; ++i) add_column<kEntropy>(f[i], s.max, scale, s.sum, s.weighted);
}

/// The running sums at a larger maximum.
FG_DEVICE void raise(Sums& s, float max, float scale) {
  if (!(max > s.max)) return;
  const float d = fmaxf((s.max - max) * scale, kLowestPower), f = exp2_fast(d);
  s.weighted = (s.weighted + s.sum * d) * f;
  s.sum *= f;
  s.max = max;
}

template <DType D>
FG_DEVICE float vector_max(const Vec16& v, float m) {
  float f[Format<D>::kPer];
  Format<D>::unpack(v, f);
  FG_UNROLL
  for (int i = 0; i < Format<D>::kPer; ++i) m = fmaxf(m, f[i]);
  return m;
}

/// This thread's part of the row, the target left out.
template <DType D, bool kEntropy>
FG_DEVICE Sums sweep(const typename Format<D>::Element* row, const RowSpan<D>& span, int target, float scale,
                     Cache cache) {
  using F = Format<D>;
  Sums s;
  if (thread() < span.singles() && span.single_column(thread()) != target) {
    const float z = F::widen(load(row + span.single_column(thread())));
    raise(s, z, scale);
    add_column<kEntropy>(z, s.max, scale, s.sum, s.weighted);
  }
  const int target_vector = span.vector_of(target), in_vector = target - span.vector_column(target_vector);
  for (int v = thread(); v < span.vectors; v += kBatch * threads()) {
    Vec16 x[kBatch];
    FG_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      const int at = v + k * threads();
      x[k] = at < span.vectors ? load16(row + span.vector_column(at), cache) : filler<D>();
    }
    float m = s.max;
    FG_UNROLL
    for (int k = 0; k < kBatch; ++k) {
      if (v + k * threads() == target_vector) set_in_vector<D>(x[k], in_vector, minus_infinity<D>());
      m = vector_max<D>(x[k], m);
    }
    raise(s, m, scale);
    FG_UNROLL
    for (int k = 0; k < kBatch; ++k) add_vector<D, kEntropy>(s, x[k], scale);
  }
  return s;
}

template <DType D>
FG_DEVICE void zero_row(typename Format<D>::Element* out, int vocab) {
  const RowSpan<D> span(out, vocab);
  Vec16 zero;
  zero.x = zero.y = zero.z = zero.w = 0;
  for (int v = thread(); v < span.vectors; v += threads()) store16(out + span.vector_column(v), zero, Cache::streaming);
  if (thread() < span.singles()) store(out + span.single_column(thread()), typename Format<D>::Element(0));
}

/// Backwards, so that what was read last is read first. Each thread reads and writes the same elements: in place is
/// safe.
template <DType D, bool kLinear, bool kAligned>
FG_DEVICE void write_gradient(const typename Format<D>::Element* row, typename Format<D>::Element* out,
                              const RowSpan<D>& span, int target, float scale, const RowCoefficients& k) {
  using F = Format<D>;
  const int rounds = span.vectors > thread() ? (span.vectors - thread() + threads() - 1) / threads() : 0;
  for (int r = rounds - 1; r >= 0; r -= 2) {
    Vec16 x[2];
    x[0] = load16(row + span.vector_column(thread() + r * threads()), Cache::streaming);
    if (r > 0) x[1] = load16(row + span.vector_column(thread() + (r - 1) * threads()), Cache::streaming);
    FG_UNROLL
    for (int j = 0; j < 2; ++j) {
      if (r - j < 0) break;
      const int at = thread() + (r - j) * threads();
      float f[F::kPer];
      F::unpack(x[j], f);
      FG_UNROLL
      for (int i = 0; i < F::kPer; ++i) f[i] = gradient_of<kLinear>(f[i], scale, k);
      store_vector<D>(out + span.vector_column(at), F::pack(f), kAligned);
    }
  }
  // The thread that wrote the target's column writes it again, from 1 - p rather than p - 1.
  const int target_vector = span.vector_of(target);
  if (target_vector >= 0 && target_vector % threads() == thread()) store(out + target, F::narrow(k.own));
  if (thread() >= span.singles()) return;
  const int column = span.single_column(thread());
  const float g = gradient_of<kLinear>(F::widen(load(row + column)), scale, k);
  store(out + column, F::narrow(column == target ? k.own : g));
}

template <DType D, bool kGradient>
FG_KERNEL(kMaxThreads, 1)
rows_block(const RowTask t) {
  using E = typename Format<D>::Element;
  FG_SHARED(RowCoefficients, coefficients, 1);
  const FaultKey before = earlier_fault(t.workspace, t.segments);
  FG_SHARED(Partial, total, 1);  // of thread 0
  if (thread() == 0) total[0] = empty_partial();
  for (int64_t r = block(); r < t.rows && before == kNoFault; r += blocks()) {
    const RowPlan plan = load_same(t.workspace.plan + r);
    E* const out = kGradient ? static_cast<E*>(t.grad.data) + plan.grad : nullptr;
    if (!plan.selected()) {
      if (thread() == 0) write_statistics(t, r, 0, 0, 0);
      if constexpr (kGradient) zero_row<D>(out, int(t.grad.vocab));
      continue;
    }
    const E* const row = static_cast<const E*>(t.logits.data) + plan.logits;
    const RowSpan<D> span(row, int(t.logits.vocab));
    RowInputs in;
    float target = 0;
    if (warp() == 0) in = load_inputs(t, r, plan), target = Format<D>::widen(load_same(row + plan.target));
    constexpr Cache cache = kGradient ? Cache::keep : Cache::streaming;
    const Sums mine = t.entropy ? sweep<D, true>(row, span, plan.target, t.scale, cache)
                                : sweep<D, false>(row, span, plan.target, t.scale, cache);
    const Sums sums = block_merged(mine, t.scale);
    if (warp() == 0) {
      const RowCoefficients k = row_step(t, r, plan, in, sums, target, thread() == 0, SharedTotal{total});
      if (thread() == 0) coefficients[0] = k;
    }
    sync();
    if constexpr (kGradient) {
      const RowCoefficients k = coefficients[0];
      if (k.a == 0 && k.b == 0) {
        zero_row<D>(out, int(t.grad.vocab));
        sync();
        if (thread() == 0 && k.own != 0) store(out + plan.target, Format<D>::narrow(k.own));
      } else if (((reinterpret_cast<uintptr_t>(row) ^ reinterpret_cast<uintptr_t>(out)) & 15) != 0) {
        write_gradient<D, true, false>(row, out, span, plan.target, t.scale, k);  // rare: one variant will do
      } else if (k.b == 0) {
        write_gradient<D, false, true>(row, out, span, plan.target, t.scale, k);
      } else {
        write_gradient<D, true, true>(row, out, span, plan.target, t.scale, k);
      }
    }
  }
  finish(t.workspace, block(), blocks(), total, before, t.outcome, t.sequences);
}

template <DType D, bool kGradient>
Launch launch_as(void* stream, const RowTask& t, const Device& device) {
  Shape shape;
  const int64_t vectors = t.logits.vocab / Format<D>::kPer;
  shape.threads = vectors >= 2048 ? 512 : vectors >= 512 ? 256 : 128;
  int64_t blocks = resident_clusters(rows_block<D, kGradient>, shape);
  if (kGradient) {  // rows in flight are to stay in L2 between their two reads
    const int64_t fit = int64_t(0.7 * double(device.l2_bytes)) / (t.logits.vocab * size_of(D)) + 1;
    blocks = blocks < fit ? blocks : fit;
  }
  blocks = blocks < kMaxPartials ? blocks : kMaxPartials;
  shape.blocks = t.rows < 1 ? 1 : t.rows < blocks ? t.rows : blocks;
  return launch(rows_block<D, kGradient>, "rows_block", __FILE__, __LINE__, shape, stream, t);
}

template <DType D>
Launch launch_for(void* stream, const RowTask& t, const Device& d) {
  return t.grad.data ? launch_as<D, true>(stream, t, d) : launch_as<D, false>(stream, t, d);
}

}  // namespace

Launch launch_rows_block(void* stream, const RowTask& t, const Device& d) {
  if (t.logits.dtype == DType::f32) return launch_for<DType::f32>(stream, t, d);
  if (t.logits.dtype == DType::bf16) return launch_for<DType::bf16>(stream, t, d);
  return launch_for<DType::f16>(stream, t, d);
}

}  // namespace fg::cuda
