// Seeded bugs of the formulas: the mistakes that comparable systems really made (signs, shifts, wrong side of a clip, ddof, a mask multiplied
// instead of selected, missing temperature, wrong denominator, ...), one text replacement each. scripts/mutants.mjs applies them.
const policy = 'native/math/policy_loss.h';
const kl = 'native/math/kl.h';
const bounds = 'native/math/bounds.h';
const params = 'native/math/loss_params.h';
const sums = 'native/math/sequence_sums.h';
const choice = 'native/math/batch_choice.h';
const advantage = 'native/math/advantage.h';
const softmax = 'native/math/softmax.h';

/** [what is wrong, file, text, replacement] */
export const formulas = [
  // clip
  [
    'the loss is negated',
    policy,
    'T gain = O::select(O::less(clipped_term, free_term), clipped_term, free_term);',
    'T gain = O::neg(O::select(O::less(clipped_term, free_term), clipped_term, free_term));',
  ],
  [
    'max instead of min of the two terms',
    policy,
    'O::select(O::less(clipped_term, free_term), clipped_term, free_term)',
    'O::select(O::less(clipped_term, free_term), free_term, clipped_term)',
  ],
  ['always the clipped term', policy, 'O::select(O::less(clipped_term, free_term), clipped_term, free_term)', 'clipped_term'],
  [
    'clips below 1 + epsilon',
    policy,
    'const double low = 1 - p.epsilon_low, high = 1 + p.epsilon_high;',
    'const double low = 1 + p.epsilon_low, high = 1 + p.epsilon_high;',
  ],
  [
    'epsilon used on both sides',
    policy,
    'const double low = 1 - p.epsilon_low, high = 1 + p.epsilon_high;',
    'const double low = 1 - p.epsilon_low, high = 1 + p.epsilon_low;',
  ],
  [
    'epsilonHigh used on both sides',
    policy,
    'const double low = 1 - p.epsilon_low, high = 1 + p.epsilon_high;',
    'const double low = 1 - p.epsilon_high, high = 1 + p.epsilon_high;',
  ],
  [
    'delta bounds the clipped term as well',
    policy,
    'between(ratio, low, high), a);',
    'between(bounded, low, high > p.delta ? p.delta : high), a);',
  ],
  ['delta is ignored', policy, 'const T bounded = p.delta < kUnbounded ? at_most(ratio, p.delta) : ratio;', 'const T bounded = ratio;'],
  [
    'dual clip for positive advantages',
    policy,
    'O::both(O::below(a, 0), O::less(gain, floor))',
    'O::both(O::less(O::constant(a, 0), a), O::less(gain, floor))',
  ],
  ['dual clip without looking at the sign', policy, 'O::both(O::below(a, 0), O::less(gain, floor))', 'O::less(gain, floor)'],
  [
    'dual clip takes the smaller',
    policy,
    'O::select(O::both(O::below(a, 0), O::less(gain, floor)), floor, gain)',
    'O::select(O::both(O::below(a, 0), O::less(floor, gain)), floor, gain)',
  ],
  [
    'clip counts ignore the sign of the advantage',
    policy,
    'return {loss, O::both(O::below(x, low), O::below(advantage, 0)),',
    'return {loss, O::both(O::below(x, low), O::less(O::constant(x, -1e9), x)),',
  ],
  [
    'clip counts have their sides swapped',
    policy,
    'O::both(O::less(O::constant(x, high), x), O::less(O::constant(advantage, 0), advantage))};',
    'O::both(O::less(O::constant(x, high), x), O::below(advantage, 0))};',
  ],
  // other surrogates
  ['cispo bounds by 1 + epsilonHigh', policy, 'at_most(ratio, p.epsilon_high), a));', 'at_most(ratio, 1 + p.epsilon_high), a));'],
  [
    'cispo differentiates the weight',
    policy,
    'return with_clip_flags(O::neg(weighted(coefficient, logp)), ratio, -kUnbounded',
    'return with_clip_flags(O::neg(O::mul(O::mul(at_most(ratio, p.epsilon_high), a), logp)), ratio, -kUnbounded',
  ],
  [
    'cispo without the advantage',
    policy,
    'O::value(O::mul(at_most(ratio, p.epsilon_high), a))',
    'O::value(at_most(ratio, p.epsilon_high))',
  ],
  [
    'sapo swaps its temperatures',
    policy,
    'by_sign(a, O::constant(a, p.sapo_temperature_pos), O::constant(a, p.sapo_temperature_neg))',
    'by_sign(a, O::constant(a, p.sapo_temperature_neg), O::constant(a, p.sapo_temperature_pos))',
  ],
  ['sapo scales by 4 instead of 4 / tau', policy, 'O::constant(a, 4 / p.sapo_temperature_neg)', 'O::constant(a, 4.0)'],
  ['sapo gates around 0 instead of 1', policy, 'O::mul(tau, O::shift(ratio, -1.0))', 'O::mul(tau, ratio)'],
  [
    'vespo is not normalised to phi(1) = 1',
    policy,
    'O::shift(O::sub(O::scale(q, k), O::scale(w, l)), l)',
    'O::sub(O::scale(q, k), O::scale(w, l))',
  ],
  ['vespo takes k for lambda', policy, 'O::sub(O::scale(q, k), O::scale(w, l))', 'O::sub(O::scale(q, l), O::scale(w, k))'],
  [
    'vespo swaps the signs',
    policy,
    'O::select(O::below(advantage, 0), negative, positive)',
    'O::select(O::below(advantage, 0), positive, negative)',
  ],
  [
    'gmpo differentiates the sum, not the exponential',
    policy,
    'O::neg(O::mul(O::exp(at_most(in.shared, kMaxLogRatio)), a))',
    'O::neg(O::mul(O::shift(in.shared, 1.0), a))',
  ],
  [
    'reinforce forgets the advantage',
    policy,
    'return {O::neg(weighted(in.advantage, in.logp)), never, never};',
    'return {O::neg(in.logp), never, never};',
  ],
  [
    'dppo keeps what has moved',
    policy,
    'return O::negate(O::choose(not_positive, too_low, too_high));\n  }',
    'return O::choose(not_positive, too_low, too_high);\n  }',
  ],
  [
    'dppo checks the other direction',
    policy,
    'return O::negate(O::choose(not_positive, too_low, too_high));\n  }',
    'return O::negate(O::choose(not_positive, too_high, too_low));\n  }',
  ],
  ['dppo: KL the other way round', policy, 'O::mul(old_p, O::neg(log_ratio))', 'O::mul(now_p, log_ratio)'],
  ['dppo: KL masks both directions', policy, 'O::both(above(away, p.epsilon_high), O::less(old_p, now_p))', 'above(away, p.epsilon_high)'],
  [
    'dppo differentiates the ratio too',
    policy,
    'const T loss = O::neg(weighted(O::value(coefficient), in.logp));',
    'const T loss = O::neg(O::mul(coefficient, in.logp));',
  ],
  [
    'kl_cov penalises all tokens',
    policy,
    'O::select(in.chosen, O::scale(distance, p.kl_cov_coef), zero)',
    'O::scale(distance, p.kl_cov_coef)',
  ],
  [
    'kl_cov penalises the signed difference',
    policy,
    'O::select(O::below(moved, 0), O::neg(moved), by_sign(moved, moved, O::detach(moved)))',
    'moved',
  ],
  [
    'clip_cov lets the gradient through',
    policy,
    's.loss = O::select(in.chosen, O::constant(a, 0), s.loss);',
    's.loss = O::select(in.chosen, s.loss, s.loss);',
  ],
  // factor, KL
  [
    'masks and corrections reach the KL term',
    policy,
    'out.loss = O::add(out.loss, O::scale(out.kl, p.beta));',
    'out.loss = O::add(out.loss, O::scale(O::times(out.kl, in.factor), p.beta));',
  ],
  ['the factor is ignored', policy, 'TokenLoss<T> out{weighted(in.factor, s.loss),', 'TokenLoss<T> out{s.loss,'],
  [
    'KL is subtracted',
    policy,
    'out.loss = O::add(out.loss, O::scale(out.kl, p.beta));',
    'out.loss = O::sub(out.loss, O::scale(out.kl, p.beta));',
  ],
  ['KL of the reference to the policy', kl, 'O::sub(O::lift(ref), logp)', 'O::sub(logp, O::lift(ref))'],
  [
    'k3 without its linear term (never negative, wrong slope at 0)',
    kl,
    'return O::shift(O::sub(O::exp(d), d), -1.0);',
    'return O::shift(O::exp(d), -1.0);',
  ],
  [
    'k3 as exp(2d) - d - 1',
    kl,
    'return O::shift(O::sub(O::exp(d), d), -1.0);',
    'return O::shift(O::sub(O::exp(O::scale(d, 2.0)), d), -1.0);',
  ],
  ['k2 without its half', kl, 'O::scale(O::mul(d, d), 0.5)', 'O::mul(d, d)'],
  ['k1 with the wrong sign', kl, 'if (kind == KlEstimator::k1) return O::neg(d);', 'if (kind == KlEstimator::k1) return d;'],
  ['bias correction is left out', kl, 'return p.bias_correction_kl ? O::mul(kl, ratio) : kl;', 'return kl;'],
  ['bias correction does not differentiate the ratio', kl, 'O::mul(kl, ratio) : kl;', 'O::mul(kl, O::detach(ratio)) : kl;'],
  ['straight-through takes its own derivative', kl, 'O::add_slope(O::detach(kl), kl_estimate(KlEstimator::k2, d))', 'kl'],
  ['the score-function term is missing', kl, 'kl = O::add_slope(kl, O::mul(O::detach(kl), logp));', 'kl = kl;'],
  // ratio
  ['old log-probs with the wrong sign', policy, 'return {logp.value - old, logp.slope};', 'return {old - logp.value, -logp.slope};'],
  ['on policy the ratio loses its gradient', policy, 'if (on_policy) return {T(0), logp.slope};', 'if (on_policy) return {T(0), T(0)};'],
  ['the bound of the log-ratio is gone', bounds, 'kMaxLogRatio = 40', 'kMaxLogRatio = 4000'],
  ['the bound of the log-ratio is too low', bounds, 'kMaxLogRatio = 40', 'kMaxLogRatio = 2'],
  [
    'infinite log-probs meet a factor of 0',
    bounds,
    'return O::select(some, O::times(x, coefficient), O::constant(x, 0));',
    'return O::times(x, coefficient);',
  ],
  // weights
  [
    'grpo does not divide by the length',
    params,
    'return 1.0 / ((weighs_by_length(type) && length > 1 ? double(length) : 1.0) * normalizer);',
    'return 1.0 / normalizer;',
  ],
  ['every loss divides by the length', params, '(weighs_by_length(type) && length > 1 ?', '(length > 1 ?'],
  ['gmpo is not weighted by length', params, 'type == LossType::sapo || type == LossType::gmpo;', 'type == LossType::sapo;'],
  ['luspo counts tokens', params, 'return weighs_by_length(type) || type == LossType::luspo ?', 'return weighs_by_length(type) ?'],
  [
    'dr_grpo forgets maxCompletionLength',
    params,
    'if (type == LossType::dr_grpo) return Counted::sequence_lengths;',
    'if (type == LossType::dr_grpo) return Counted::sequences;',
  ],
  // sequences
  [
    'the sequence ratio is a product, not a mean',
    sums,
    'v.log_ratio = T(s.log_ratio / double(v.length));',
    'v.log_ratio = T(s.log_ratio);',
  ],
  [
    "the sequence ratio keeps the token's own gradient",
    sums,
    'out.token = token_loss<D>(p, inputs(p.level == RatioLevel::sequence ? 0 : 1, 1, 0));',
    'out.token = token_loss<D>(p, inputs(1, 1, 0));',
  ],
  [
    'the shared gradient is not divided by the length',
    sums,
    'if (p.loss_type != LossType::gmpo) return T(1) / s.length;',
    'if (p.loss_type != LossType::gmpo) return T(1);',
  ],
  ['the shared gradient is lost', sums, 'if (shares_slope(p)) out.shared =', 'if (false) out.shared ='],
  [
    "sequence_token takes the token's ratio",
    sums,
    'const T u = p.level == RatioLevel::token ? v.log_ratio : s.log_ratio;',
    'const T u = p.level == RatioLevel::sequence ? s.log_ratio : v.log_ratio;',
  ],
  [
    'gmpo clips on both sides',
    sums,
    'return by_sign(advantage, at_most(log_ratio, p.epsilon_high), at_least(log_ratio, -p.epsilon_low));',
    'return between(log_ratio, -p.epsilon_low, p.epsilon_high);',
  ],
  [
    'gmpo clips the wrong side',
    sums,
    'return by_sign(advantage, at_most(log_ratio, p.epsilon_high), at_least(log_ratio, -p.epsilon_low));',
    'return by_sign(advantage, at_least(log_ratio, -p.epsilon_low), at_most(log_ratio, p.epsilon_high));',
  ],
  ['gmpo divides by all tokens, not by those kept', sums, 'T(s.shared / double(v.kept))', 'T(s.shared / double(v.length))'],
  ['vespo means instead of sums', sums, 'vespo_log_weight(T(s.shared)) :', 'vespo_log_weight(T(s.shared / double(v.length))) :'],
  ['vespo forgets the sampler', sums, 'corrects ? sampler_weight(p, correction) : T(1));', 'T(1));'],
  [
    'vespo multiplies the sampler twice',
    sums,
    'if (p.sampler == SamplerCorrection::none || p.loss_type == LossType::vespo) return 1;',
    'if (p.sampler == SamplerCorrection::none) return 1;',
  ],
  [
    'the sampler correction is upside down',
    sums,
    'O::select(O::is_nan(sampler), O::constant(old, 0), O::sub(old, sampler))',
    'O::select(O::is_nan(sampler), O::constant(old, 0), O::sub(sampler, old))',
  ],
  [
    'an unknown sampler log-prob poisons the sum',
    sums,
    'O::select(O::is_nan(sampler), O::constant(old, 0), O::sub(old, sampler))',
    'O::sub(old, sampler)',
  ],
  ['mask modes truncate', sums, 'return O::select(outside, O::constant(w, 0), w);', 'return between(w, p.sampler_min, p.sampler_max);'],
  [
    'mask modes ignore the lower bound',
    sums,
    'O::either(O::below(w, p.sampler_min), O::less(O::constant(w, p.sampler_max), w))',
    'O::less(O::constant(w, p.sampler_max), w)',
  ],
  [
    'sequence corrections use a mean',
    sums,
    'sampler_weight(p, T(s.sampler)) : T(1);',
    'sampler_weight(p, T(s.sampler / double(v.length))) : T(1);',
  ],
  [
    'the off-policy mask drops positive advantages',
    sums,
    'O::both(O::below(advantage, 0), drifted)',
    'O::both(O::less(O::constant(advantage, 0), advantage), drifted)',
  ],
  ['the off-policy mask sums instead of averaging', sums, 'v.drift = T(s.drift / double(v.length));', 'v.drift = T(s.drift);'],
  ['drift with the wrong sign', sums, 'drift_term(v.sampler, v.logp) : -v.log_ratio;', 'drift_term(v.sampler, v.logp) : v.log_ratio;'],
  [
    "the entropy mask keeps gmpo's masked tokens",
    sums,
    'if (p.loss_type == LossType::gmpo && v.kept) s.shared',
    'if (p.loss_type == LossType::gmpo) s.shared',
  ],
  // batch statistics
  ["the quantile's rank is off by one", choice, 'q * double(n - 1)', 'q * double(n)'],
  ['quantiles are not interpolated', choice, 'return {int64_t(low), rank - low};', 'return {int64_t(low), 0};'],
  ['none chosen for small batches', choice, 'return k > 1 ? k : 1;', 'return k;'],
  ['the choice ignores its seed', choice, '0x9E3779B9u * (seed + 1u)', '0x9E3779B9u'],
  // advantages
  ['population standard deviation whatever ddof', advantage, 'squares / double(s.count - ddof)', 'squares / double(s.count)'],
  [
    'eps inside the root',
    advantage,
    'if (o.scale == RewardScale::group) a /= group.std + o.eps;',
    'if (o.scale == RewardScale::group) a /= std::sqrt(group.std * group.std + o.eps);',
  ],
  [
    'one-pass variance',
    advantage,
    'if (is_finite(v)) squares += (v - s.mean) * (v - s.mean);',
    'if (is_finite(v)) squares += v * v - s.mean * s.mean;',
  ],
  [
    'leave-one-out without n / (n - 1)',
    advantage,
    'a = (r - group.mean) * double(group.count) / double(group.count - 1);',
    'a = r - group.mean;',
  ],
  [
    'constant rewards give noise',
    advantage,
    'if (o.baseline != Baseline::none && (by_batch ? batch : group).constant) return 0;',
    'if (false) return 0;',
  ],
  [
    "batch std is the group's",
    advantage,
    'if (o.scale == RewardScale::batch) a /= batch.std + o.eps;',
    'if (o.scale == RewardScale::batch) a /= group.std + o.eps;',
  ],
  ['ranks from 0', advantage, 'double(below) + 0.5 * double(equal + 1)', 'double(below) + 0.5 * double(equal - 1)'],
  ['ties take the lowest rank', advantage, 'double(below) + 0.5 * double(equal + 1)', 'double(below) + 1'],
  // softmax
  ["the entropy's sign", softmax, 'out.entropy = entropy > 0 ? entropy : T(0);', 'out.entropy = entropy > 0 ? -entropy : T(0);'],
  ['the gradient forgets 1 / temperature', softmax, 'const T k = s.rest_scale / temperature;', 'const T k = s.rest_scale;'],
  ["the entropy's gradient lacks + H", softmax, 'h * (s.rest_shift + s.entropy)', 'h * s.rest_shift'],
  [
    "the target's own entropy gradient is missing",
    softmax,
    '(c * s.rest - (h != 0 && p > 0 ? h * p * (s.logp + s.entropy) : T(0))) / temperature',
    '(c * s.rest) / temperature',
  ],
];
