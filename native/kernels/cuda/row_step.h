#pragma once
// From the sums over a row to its log-prob, and to the coefficients of its gradient: the scalar part of a row, in
// float, by the functions of native/math.
#include "kernels/cuda/rows.h"
#include "kernels/cuda/team.h"
#include "math/policy_loss.h"
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

/// Of the warp, for all its lanes.
FG_DEVICE Sums warp_merged(Sums s, float scale) {
  for (int m = 16; m > 0; m >>= 1) {
    const Sums o{shuffle_xor(s.max, m), shuffle_xor(s.sum, m), shuffle_xor(s.weighted, m)};
    s = merged(s, o, scale);
  }
  return s;
}

/// Of the block, for all lanes of warp 0. Contains a sync.
FG_DEVICE Sums block_merged(Sums s, float scale) {
  FG_SHARED(float, maxima, 32);
  FG_SHARED(float, sums, 32);
  FG_SHARED(float, weights, 32);
  s = warp_merged(s, scale);
  if (lane() == 0) maxima[warp()] = s.max, sums[warp()] = s.sum, weights[warp()] = s.weighted;
  sync();
  if (warp() != 0) return s;
  Sums mine;
  if (lane() < threads() / 32) mine = Sums{float(maxima[lane()]), float(sums[lane()]), float(weights[lane()])};
  return warp_merged(mine, scale);
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
  // Registers are short here: Step::given's gradients of log-prob and entropy, or the policy's old and ref log-probs.
  float c_or_old = 0, h_or_ref = 0, advantage = 0;
};

FG_DEVICE RowInputs load_inputs(const RowTask& t, int64_t row, const RowPlan& plan) {
  RowInputs in;
  if (t.step == Step::given) {
    in.c_or_old = load(t.grad_logps + row);
    if (t.grad_entropies) in.h_or_ref = load(t.grad_entropies + row);
  } else if (t.step == Step::policy) {
    if (t.old_logps) in.c_or_old = load(t.old_logps + row);
    if (t.params.beta != 0) in.h_or_ref = load(t.ref_logps + row);
    in.advantage = load(t.advantages + (t.advantages_per_token ? row : plan.sequence));
  }
  return in;
}

FG_DEVICE void write_statistics(const RowTask& t, int64_t row, float logp, float lse, float entropy) {
  if (t.logps) store(t.logps + row, logp);
  if (t.lse) store(t.lse + row, lse);
  if (t.entropies) store(t.entropies + row, entropy);
}

/// Where a thread adds up what it counted. In shared memory where registers hold the row.
struct RegisterTotal {
  Partial& total;
  FG_DEVICE void operator()(const Partial& one) const { add(total, one); }
};
struct SharedTotal {
  Shared<Partial> total;  // of one thread alone
  FG_DEVICE void operator()(const Partial& one) const {
    Partial p = total[0];
    add(p, one);
    total[0] = p;
  }
};

/// Of the token's entropy in the total: none where the entropy mask leaves the token out.
FG_DEVICE float entropy_weight(const RowTask& t, float entropy) {
  return entropy >= float(t.params.entropy_threshold) ? t.entropy_weight : 0.0f;
}

/// The token's loss joins the total where `counts`; the result is d(loss) / d(logp).
template <class Total>
FG_DEVICE float policy_step(const RowTask& t, const RowPlan& plan, const RowInputs& in, const RowSoftmaxOf<float>& s,
                            bool counts, const Total& total) {
  const float entropy = t.entropy ? s.entropy : 0.0f, weight = entropy_weight(t, entropy);
  const float factor = entropy >= float(t.params.entropy_threshold) ? plan.factor : 0.0f;
  const auto token = token_slope<float>(t.params, s.logp, !t.old_logps, in.c_or_old, in.h_or_ref, in.advantage, factor);
  if (counts) {
    const double loss = double(plan.weight) * token.loss.value - double(weight) * entropy;
    const double kl = token.kl.value, ratio = token.ratio.value;
    total(Partial{loss, kl, entropy, ratio, ratio, ratio, 1, token.clipped_low, token.clipped_high, kNoFault});
  }
  return plan.weight * token.loss.slope;
}

/// The row's softmax. Relative to the maximum: logits of a thousand must not cost the difference its digits.
FG_DEVICE RowSoftmaxOf<float> softmax_of(const Sums& sums, float target, float temperature) {
  const float base = sums.sum > 0 ? sums.max : 0.0f;  // 0: no other column is finite
  RowSoftmaxOf<float> s = row_softmax<float>({0, sums.sum, sums.weighted * kLn2}, (target - base) / temperature);
  s.lse += base / temperature;
  return s;
}

/// `counts`: this thread also writes the row's statistics and counts it. A faulty row's gradient is 0.
template <class Total>
FG_DEVICE RowCoefficients row_step(const RowTask& t, int64_t row, const RowPlan& plan, const RowInputs& in,
                                   const Sums& sums, float target, bool counts, const Total& total) {
  const RowSoftmaxOf<float> s = softmax_of(sums, target, t.temperature);
  RowCoefficients out{sums.max, 0, 0, 0};
  if (counts) write_statistics(t, row, s.finite ? s.logp : 0, s.finite ? s.lse : 0, s.finite ? s.entropy : 0);
  if (!s.finite) {
    Partial one = empty_partial();
    one.fault = fault_key(Stage::values, row, kernels::Fault::logits);
    if (counts) total(one);
    return out;
  }
  if (t.step == Step::log_prob) return out;
  const float c = t.step == Step::given ? in.c_or_old : policy_step(t, plan, in, s, counts, total);
  const float h = t.step == Step::given ? in.h_or_ref : -entropy_weight(t, s.entropy);
  if (c == 0 && h == 0) return out;
  const RowSlopeOf<float> slope = row_slope<float>(s, c, h, t.temperature);
  out.a = slope.a;
  out.b = slope.b * kLn2;      // the sweeps work in powers of two
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
