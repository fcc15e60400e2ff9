// From rows of logits to tokens and their log-probs. A block reads its row from memory once (maximum, NaN) and then,
// from the L2 cache, once for the normaliser and once per digit of each threshold that is wanted.
#include "kernels/cuda/sampling.h"

#include "kernels/cuda/platform.h"
#include "kernels/cuda/sampling_row.h"
#include "kernels/cuda/sampling_search.h"
#include "math/random.h"
#include "math/sampling.h"

namespace fg::cuda {
namespace {

constexpr int kMaxThreads = 896;  // 72 registers each: with 64 the compiler spills
constexpr int kMinThreads = 64;   // pick_id needs two warps

struct KernelArgs {
  SampleArgs sample;
  int shift;      // mass_shift(vocab)
  float inverse;  // 1 / temperature
};

/// The first pass: the largest logits before and after the penalty.
struct Largest {
  float raw, penalised;
  float own;    // this thread's, after the penalty
  bool finite;  // no NaN, no +inf, and a finite logit
};

template <DType D>
FG_DEVICE Largest find_largest(const Board& b, const Logits<D>& in) {
  const float lowest = from_order(kLowest);
  float raw = lowest, after = lowest;
  bool nan = false;
  if (in.seen) {
    walk<D>(in.row, in.whole(), thread(), threads(), Cache::keep, [&](int id, float z) {
      raw = fmaxf(raw, z), nan |= z != z;
      after = fmaxf(after, in.penalise(id, z));
    });
  } else {
    walk<D>(in.row, in.whole(), thread(), threads(), Cache::keep, [&](int, float z) {
      raw = fmaxf(raw, z), nan |= z != z;  // fmaxf passes over a NaN
    });
    after = raw;
  }
  const float top = block_max(b, after), largest = in.seen ? block_max(b, raw) : top;
  const bool bad = block_max(b, nan ? 1.0f : 0.0f) > 0 || !is_finite(largest);
  return {largest, top, after, !bad};
}

/// What a row is drawn from.
template <DType D>
struct Draw {
  Logits<D> in;
  Weights weights;   // after the penalty
  uint64_t of_warp;  // mass of this warp's part of the row
  uint64_t total;    // mass of the row
  float own;         // Largest::own
  SampleParams params;
  const SampleCoordinates* coordinates;

  FG_DEVICE int bits() const { return order_bits<D>(in.seen != nullptr); }
  FG_DEVICE double uniform() const {
    const SampleCoordinates c = load(coordinates);
    return token_uniform(params.seed, params.step, c.prompt, c.completion, c.token);
  }
};

/// What thread 0 needs for the log-prob in the end, out of the way until then: registers are short.
struct Normaliser {
  Weights raw;
  uint64_t all;
};

/// Masses of the row: returns the one before the penalty, fills in those after it.
template <DType D>
FG_DEVICE uint64_t measure(const Board& b, const Weights& raw, Draw<D>& draw) {
  uint64_t before = 0, after = 0;
  const Span span = part(draw.in.whole(), warp());
  if (draw.in.seen)
    walk<D>(draw.in.row, span, lane(), 32, Cache::normal, [&](int id, float z) {
      before += raw.mass(z);
      after += draw.weights.mass(draw.in.penalise(id, z));
    });
  else
    walk<D>(draw.in.row, span, lane(), 32, Cache::normal, [&](int, float z) { before += raw.mass(z); });
  before = warp_sum(before);
  draw.of_warp = draw.in.seen ? warp_sum(after) : before;
  draw.total = block_sum(b, draw.of_warp);
  return draw.in.seen ? block_sum(b, before) : draw.total;
}

/// The place in a mass of `total` (at least 1) where the uniform falls.
FG_DEVICE uint64_t portion(double uniform, uint64_t total) {
  const uint64_t at = uint64_t(uniform * double(total));
  return at < total ? at : total - 1;
}

template <DType D>
FG_DEVICE int draw_whole(const Board& b, const Draw<D>& d) {
  uint64_t target = portion(d.uniform(), d.total);
  const Span s = narrow(b, d.in.whole(), d.of_warp, target);
  return pick_id<D>(b, d.in.row, s, target, [&](int id, float z) { return d.weights.mass(d.in.penalise(id, z)); });
}

/// descend() over the elements of the penalised row that reach `least`. Most do not, and cost next to nothing.
template <DType D, class Amount, class Target>
FG_DEVICE Cut descend_row(const Board& b, const Draw<D>& d, float least, Amount amount, Target target) {
  const auto row = [&](auto f) {
    walk<D>(d.in.row, d.in.whole(), thread(), threads(), Cache::normal, [&](int id, float z) {
      const float after = d.in.penalise(id, z);
      if (after >= least) f(after);
    });
  };
  return descend(b, d.bits(), row, amount, target);
}

/// The order of the k-th largest. At least k elements reach the k-th largest of the threads' maxima, so that smaller
/// ones need not be counted: few elements, instead of all, then contend for the histogram.
template <DType D>
FG_DEVICE uint32_t kth_order(const Board& b, const Draw<D>& d) {
  const uint64_t k = uint64_t(d.params.top_k);
  const auto one = [](uint32_t, float) { return uint64_t(1); };
  const auto rank = [&](uint64_t) { return k - 1; };
  uint32_t floor = kLowest;
  if (k <= uint64_t(threads())) floor = descend(b, d.bits(), [&](auto f) { f(d.own); }, one, rank).order;
  return descend_row(b, d, from_order(floor), one, rank).order;
}

/// Elements of order at most `limit`, of which `excess` mass at the end (ties by highest id) does not belong.
struct Kept {
  uint32_t limit;
  uint64_t excess;
};

FG_DEVICE float least_weight(const SampleParams& p) { return p.min_p < 1.0f ? p.min_p : 1.0f; }

/// Of the elements up to `limit` (kLowest: all) those that start below p of the mass.
template <DType D>
FG_DEVICE Kept cut_top_p(const Board& b, const Draw<D>& d, uint32_t limit) {
  const bool all = limit == kLowest;
  const double p = d.params.top_p, unit = double(d.weights.mass_of(1.0f));
  float least = from_order(limit);
  // An element below (1 - p) / vocab of the mass and all lighter ones weigh less than 1 - p together: need not be
  // counted.
  if (all && p > 0) least = d.weights.logit_of((1.0 - p) * double(d.total) / (unit * d.in.vocab));
  const auto amount = [&](uint32_t, float z) { return d.weights.mass(z); };
  const Cut cut = descend_row(b, d, least, amount, [&](uint64_t total) {
    const double mass = p * double(all ? d.total : total);
    const uint64_t whole = mass > 0 ? uint64_t(mass) : 0;
    const uint64_t end = whole + (double(whole) < mass ? 1 : 0);  // elements that start before it are kept
    return end < 1 ? 0 : (end < total ? end : total) - 1;
  });
  const float weight = d.weights.weight(from_order(cut.order));
  const uint64_t tie = d.weights.mass_of(weight), kept = (cut.offset + tie) / tie;  // ceil((offset + 1) / tie)
  return {cut.order, weight >= least_weight(d.params) ? cut.at - kept * tie : 0};
}

/// Heaviest first, ties by id: first the order of the token, then which of the elements of that order.
template <DType D>
FG_DEVICE int draw_kept(const Board& b, const Draw<D>& d, const Kept& kept) {
  const float least = least_weight(d.params);
  const float reach = fmaxf(from_order(kept.limit), d.weights.logit_of(least));
  const auto amount = [&](uint32_t, float z) -> uint64_t {
    const float w = d.weights.weight(z);
    return w >= least ? d.weights.mass_of(w) : 0;
  };
  const Cut cut =
      descend_row(b, d, reach, amount, [&](uint64_t total) { return portion(d.uniform(), total - kept.excess); });
  const float chosen = from_order(cut.order);
  const uint64_t index = cut.offset / d.weights.mass(chosen);
  return pick_id<D>(b, d.in.row, d.in.whole(), index,
                    [&](int id, float z) { return uint64_t(d.in.penalise(id, z) == chosen ? 1 : 0); });
}

template <DType D>
FG_DEVICE int draw(const Board& b, const Draw<D>& d) {
  const SampleParams& p = d.params;
  const bool top_p = p.top_p < 1.0f;
  if (p.top_k <= 0 && !top_p && !(p.min_p > 0.0f)) return draw_whole(b, d);
  Kept kept = {kLowest, 0};  // a top-k of the vocabulary or more cuts nothing, but draws heaviest first, as on the CPU
  if (p.top_k > 0 && p.top_k < d.in.vocab) kept.limit = kth_order(b, d);
  if (top_p) kept = cut_top_p(b, d, kept.limit);
  return draw_kept(b, d, kept);
}

/// The first of the largest.
template <DType D>
FG_DEVICE int greedy(const Board& b, const Draw<D>& d) {
  const float top = d.weights.top;
  return pick_id<D>(b, d.in.row, d.in.whole(), 0,
                    [&](int id, float z) { return uint64_t(d.in.penalise(id, z) == top ? 1 : 0); });
}

FG_DEVICE void write(const SampleArgs& a, int64_t row, int chosen, float logp, SampleStatus status) {
  if (thread() != 0) return;
  store(a.chosen + row, int32_t(chosen));
  store(a.logp + row, logp);
  store(a.status + row, status);
}

FG_DEVICE float logp_of(const Normaliser& n, float z, float inverse) {
  const double unit = 1.0 / double(uint64_t(1) << n.raw.shift), gap = (double(z) - n.raw.top) * inverse;
  return float(log_softmax(gap, double(n.all - n.raw.mass(z)) * unit, double(n.all) * unit));
}

template <DType D>
FG_DEVICE void sample_one(const KernelArgs& k, int64_t row, const Board& b, Shared<Normaliser> normaliser) {
  const SampleArgs& a = k.sample;
  constexpr int64_t kSize = size_of(D);
  Draw<D> d;
  d.params = a.params;
  const bool penalty = a.seen && a.params.repetition_penalty != 1.0f;
  d.in = {static_cast<const char*>(a.logits) + row * a.row_stride * kSize, int(a.vocab),
          penalty ? a.seen + row * a.vocab : nullptr, a.params.repetition_penalty};
  const Largest largest = find_largest(b, d.in);
  if (!largest.finite) return write(a, row, -1, bits_as_float(0x7FC00000u), SampleStatus::not_finite);
  const float scale = k.inverse * 1.44269504088896341f;
  const Weights raw = {largest.raw, scale, k.shift};
  d.weights = {largest.penalised, scale, k.shift};
  d.own = largest.own;
  const uint64_t all = measure(b, raw, d);
  if (thread() == 0) normaliser[0] = Normaliser{raw, all};
  d.coordinates = a.coordinates + row;
  const int chosen = a.params.temperature == 0.0f ? greedy(b, d) : draw(b, d);
  if (thread() != 0) return;
  const float logp = logp_of(normaliser[0], element<D>(d.in.row, chosen), k.inverse);
  write(a, row, chosen, logp, SampleStatus::ok);
}

template <DType D>
FG_KERNEL(kMaxThreads, 1)
sample_rows(KernelArgs k) {
  FG_SHARED(uint32_t, low, kBins);
  FG_SHARED(uint32_t, high, kBins);
  FG_SHARED(uint64_t, sums, 32);
  FG_SHARED(Place, place, 1);
  FG_SHARED(Normaliser, normaliser, 1);
  const Board board = {low, high, sums, place};
  sample_one<D>(k, block(), board, normaliser);
}

/// Enough warps to have the row's loads in flight, and no more than it has work for.
int threads_for(int64_t vocab) {
  const int64_t wanted = (vocab / 8 + 31) / 32 * 32;
  return int(wanted < kMinThreads ? kMinThreads : wanted > kMaxThreads ? kMaxThreads : wanted);
}

}  // namespace

Launch sample(const Context& context, const SampleArgs& args) {
  if (args.rows == 0) return {};
  const float temperature = args.params.temperature;
  const KernelArgs k = {args, mass_shift(args.vocab), temperature == 0.0f ? 1.0f : 1.0f / temperature};
  const Shape shape = {args.rows, threads_for(args.vocab), 1, 0};
  switch (args.dtype) {
    case DType::f32:
      return FG_LAUNCH(sample_rows<DType::f32>, shape, context.stream, k);
    case DType::bf16:
      return FG_LAUNCH(sample_rows<DType::bf16>, shape, context.stream, k);
    default:
      return FG_LAUNCH(sample_rows<DType::f16>, shape, context.stream, k);
  }
}

}  // namespace fg::cuda
