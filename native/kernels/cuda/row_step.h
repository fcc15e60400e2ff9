#pragma once
// From the sums over a row to its log-prob, and to the coefficients of its gradient: the scalar part of a row, in float,
// by the functions of native/math.
#include "kernels/cuda/rows.h"
#include "kernels/cuda/team.h"
#include "math/softmax.h"

namespace fg::cuda {

// As on the CPU (kernels/cpu/rows_common.h): below it a power of two is 0, above it -inf is no more.
inline constexpr float kLowestPower = -200.0f;
inline constexpr float kFloatLowest = -3.402823466e+38f;
inline constexpr float kLn2 = 0.693147180559945f, kLog2e = 1.44269504088896f;

/// Over columns other than the target: maximum (in logits), sums of 2^x and of x 2^x, x = (z - max) * scale.
struct Sums {
  float max = kFloatLowest, sum = 0, weighted = 0;
};

/// Both at the larger maximum. Symmetric: all lanes of a butterfly get the same bits.
FG_DEVICE Sums merged(const Sums& a, const Sums& b, float scale) {
  const float max = fmaxf(a.max, b.max);
  const float da = fmaxf((a.max - max) * scale, kLowestPower), db = fmaxf((b.max - max) * scale, kLowestPower);
  const float fa = exp2_fast(da), fb = exp2_fast(db);
  return {max, a.sum * fa + b.sum * fb, (a.weighted + a.sum * da) * fa + (b.weighted + b.sum * db) * fb};
}

/// Of `lanes` lanes (a power of two), for all of them.
FG_DEVICE Sums warp_merged(Sums s, float scale, int lanes) {
  for (int m = lanes / 2; m > 0; m >>= 1) {
    const Sums o{shuffle_xor(s.max, m), shuffle_xor(s.sum, m), shuffle_xor(s.weighted, m)};
    s = merged(s, o, scale);
  }
  return s;
}

/// Adds one column. NaN and +inf reach `sum` and are found there.
template <bool kEntropy>
FG_DEVICE void add_column(float z, float max, float scale, float& sum, float& weighted) {
  const float x = (z - max) * scale;
  const float e = exp2_fast(x);
  sum += e;
  if constexpr (kEntropy) weighted += fmaxf(x, kLowestPower) * e;  // not -inf * 0
}

/// What a row's gradient needs: 2^x (a + b x) for every column but the target's, which is `own`.
struct RowCoefficients {
  float max, a, b, own;
};

/// Token-sized inputs of a row, loaded early so that their latency is hidden.
struct RowInputs {
  float c = 0, h = 0;  // Step::given
  float old = 0, ref = 0, advantage = 0;
};

FG_DEVICE RowInputs load_inputs(const RowTask& t, int64_t row, const RowPlan& plan) {
  RowInputs in;
  if (t.step == Step::given) {
    in.c = load(t.grad_logps + row);
    if (t.grad_entropies) in.h = load(t.grad_entropies + row);
  } else if (t.step == Step::policy) {
    if (t.old_logps) in.old = load(t.old_logps + row);
    if (t.params.beta != 0) in.ref = load(t.ref_logps + row);
    in.advantage = load(t.advantages + (t.advantages_per_token ? row : plan.sequence));
  }
  return in;
}

FG_DEVICE void write_statistics(const RowTask& t, int64_t row, float logp, float lse, float entropy) {
  if (t.logps) store(t.logps + row, logp);
  if (t.lse) store(t.lse + row, lse);
  if (t.entropies) store(t.entropies + row, entropy);
}

/// The token's loss joins the partial; the result is d(loss) / d(logp).
FG_DEVICE float policy_step(const RowTask& t, const RowPlan& plan, const RowInputs& in, const RowSoftmaxOf<float>& s,
                            Partial* partial) {
  const auto token = token_slope<float>(t.params, s.logp, t.old_logps ? &in.old : nullptr, in.ref, in.advantage);
  const float entropy = t.entropy ? s.entropy : 0.0f;
  if (partial) {
    const Partial one{double(plan.weight) * token.loss.value - double(t.entropy_weight) * entropy,
                      token.kl.value,
                      entropy,
                      token.ratio.value,
                      token.ratio.value,
                      token.ratio.value,
                      1,
                      token.clipped_low,
                      token.clipped_high,
                      kNoFault};
    add(*partial, one);
  }
  return plan.weight * token.loss.slope;
}

/// `partial` not null: this thread also writes the row's statistics and counts it. A faulty row's gradient is 0.
FG_DEVICE RowCoefficients row_step(const RowTask& t, int64_t row, const RowPlan& plan, const RowInputs& in, const Sums& sums,
                                   float target, Partial* partial) {
  const RowSoftmaxOf<float> s =
      row_softmax<float>({sums.max / t.temperature, sums.sum, sums.weighted * kLn2}, target / t.temperature);
  RowCoefficients out{sums.max, 0, 0, 0};
  if (!s.finite) {
    if (partial) {
      write_statistics(t, row, 0, 0, 0);
      const FaultKey key = fault_key(Stage::values, row, kernels::Fault::logits);
      partial->fault = key < partial->fault ? key : partial->fault;
    }
    return out;
  }
  if (partial) write_statistics(t, row, s.logp, s.lse, s.entropy);
  if (t.step == Step::log_prob) return out;
  const float c = t.step == Step::given ? in.c : policy_step(t, plan, in, s, partial);
  const float h = t.step == Step::given ? in.h : -t.entropy_weight;
  if (c == 0 && h == 0) return out;
  const RowSlopeOf<float> slope = row_slope<float>(s, c, h, t.temperature);
  out.a = slope.a;
  out.b = slope.b * kLn2;  // the sweeps work in powers of two
  out.own = slope.own + 0.0f;  // never -0
  return out;
}

/// One column's gradient; kLinear: with the entropy's term.
template <bool kLinear>
FG_DEVICE float gradient_of(float z, float scale, const RowCoefficients& k) {
  float x = (z - k.max) * scale;
  if constexpr (!kLinear) return exp2_fast(x) * k.a + 0.0f;  // + 0: never -0
  x = fmaxf(x, kLowestPower);
  return exp2_fast(x) * (k.b * x + k.a) + 0.0f;
}

}  // namespace fg::cuda
