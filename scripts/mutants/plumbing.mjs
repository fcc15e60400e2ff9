// Seeded bugs around the formulas: selection, normalisation, strides, temperature, what is read and what is written.
const tokens = 'native/kernels/cpu/policy_loss.cc';
const fused = 'native/kernels/cpu/grpo_loss.cc';
const steps = 'native/kernels/cpu/sequence_steps.cc';
const picks = 'native/kernels/cpu/choose_tokens.cc';
const logits = 'native/kernels/cpu/logits.h';
const view = 'native/kernels/view.h';
const config = 'lib/ops/config.ts';
const cudaSteps = 'native/kernels/cuda/sequence_steps.cu';
const cudaPicks = 'native/kernels/cuda/choose_tokens.cu';
const cudaRow = 'native/kernels/cuda/row_step.h';
const prepare = 'native/kernels/cuda/prepare.cu';

/** [what is wrong, file, text, replacement] */
export const plumbing = [
  [
    'masked tokens count in the length',
    tokens,
    'return end - begin - std::count(l.mask + begin, l.mask + end, uint8_t(0));',
    'return end - begin;',
  ],
  ['truncated sequences keep their tokens', tokens, 'if (l.truncated && l.truncated[s]) return 0;', ''],
  [
    'masked tokens count in the normalizer',
    tokens,
    'if (counted == Counted::tokens) return double(std::max<int64_t>(selected_tokens(l), 1));',
    'if (counted == Counted::tokens) return double(std::max<int64_t>(l.rows, 1));',
  ],
  ['empty sequences never count', tokens, 's < l.sequences && exclude_empty; ++s)', 's < l.sequences; ++s)'],
  [
    'advantages are read by row',
    'native/kernels/cpu/tokens.h',
    'b.advantages[b.advantages_per_token ? row : r.sequence]',
    'b.advantages[b.advantages_per_token ? row : 0]',
  ],
  ['a NaN in old log-probs passes', tokens, 'if (b.old_logps && !std::isfinite(b.old_logps[row])) return Fault::old_logp;', ''],
  ['a NaN in the reference passes', tokens, 'if (p.beta != 0 && !std::isfinite(b.ref_logps[row])) return Fault::ref_logp;', ''],
  [
    'the entropy bonus is a penalty',
    tokens,
    'r->entropy_slope = r->kept ? -b.entropy_weight : 0.0;',
    'r->entropy_slope = r->kept ? b.entropy_weight : 0.0;',
  ],
  ['the entropy bonus ignores the mask', steps, 'r.entropy_slope = r.kept ? -entropy_weight : 0.0;', 'r.entropy_slope = -entropy_weight;'],
  ['unmasked rows keep their logits in place', fused, 'if (a.grad.data) zero_row(a.grad, c.in(a.grad));', ''],
  ['the second phase leaves masked rows', fused, '        zero_row(a.grad, c.in(a.grad));\n        continue;', '        continue;'],
  [
    'the second phase forgets the temperature',
    fused,
    'row_result(a.logits, c.in(a.logits), a.targets[c.row()], a.temperature, a.records[c.row()].rest)',
    'row_result(a.logits, c.in(a.logits), a.targets[c.row()], 1.0, a.records[c.row()].rest)',
  ],
  [
    'a faulty row is found too late',
    fused,
    'if (const Status s = first_fault(a.records, l.rows); !s.ok()) return s;\n  policy_steps',
    'policy_steps',
  ],
  [
    "the target's logit is not divided by the temperature",
    logits,
    'row_softmax(scaled, element(rows, row, target) / temperature)',
    'row_softmax(scaled, element(rows, row, target))',
  ],
  [
    'the gradient is written one row on',
    fused,
    'a.grad, c.in(a.grad), a.targets[c.row()], a.temperature, r,',
    'a.grad, c.in(a.logits), a.targets[c.row()], a.temperature, r,',
  ],
  [
    'sequence strides are ignored',
    view,
    'return sequence_stride == 0 ? row * row_stride : sequence * sequence_stride + position * row_stride;',
    'return row * row_stride;',
  ],
  [
    'row numbers in 32 bits',
    view,
    'return sequence_stride == 0 ? row * row_stride :',
    'return sequence_stride == 0 ? int64_t(int16_t(row * row_stride)) :',
  ],
  ['sequences share their sums', steps, 'SequenceSums sums;', 'static SequenceSums sums;'],
  ['the shared slope is not weighted', steps, 'shared += r.weight * t.shared;', 'shared += t.shared;'],
  [
    'the last token gets the whole shared slope',
    steps,
    'for (int64_t row = begin; row < end && shared != 0; ++row)',
    'for (int64_t row = end - 1; row < end && shared != 0; ++row)',
  ],
  [
    'the quantile counts masked tokens',
    picks,
    '    if (records[row].selected) entropies.push_back(records[row].entropy);',
    '    entropies.push_back(records[row].entropy);',
  ],
  [
    'tokens at the threshold are dropped',
    picks,
    'r.kept = r.selected && r.entropy >= threshold;',
    'r.kept = r.selected && r.entropy > threshold;',
  ],
  [
    'the smallest covariances are chosen',
    picks,
    'return x.rank != y.rank ? x.rank > y.rank : x.row < y.row;',
    'return x.rank != y.rank ? x.rank < y.rank : x.row < y.row;',
  ],
  [
    'covariance without the mean advantage',
    picks,
    '(advantage_of(b, row, r) - advantage) * (r.logp - logp)',
    'advantage_of(b, row, r) * (r.logp - logp)',
  ],
  ['clip_cov chooses among the clipped', picks, '&& !clipped_already(p, b, row, r)', '&& clipped_already(p, b, row, r)'],
  ['the explicit normalizer is ignored', tokens, 'n.normalizer > 0', 'n.normalizer > 1e300'],
  ['the entropy normalizer is ignored', tokens, 'n.entropy_normalizer > 0', 'n.entropy_normalizer > 1e300'],
  ['epsilonHigh defaults to 0.2', config, 'epsilonHigh: c.epsilonHigh ?? epsilon', 'epsilonHigh: c.epsilonHigh ?? 0.2'],
  ["gmpo has PPO's default epsilon", config, "(c.lossType === 'gmpo' ? 0.4 : 0.2)", '0.2'],
  [
    'bias correction stays on with another gradient',
    config,
    "c.useBiasCorrectionKl ?? (c.klGradient ?? 'estimator') === 'estimator'",
    'c.useBiasCorrectionKl ?? true',
  ],
  [
    'luspo without sequence level passes',
    config,
    "if (type === 'luspo' && level !== 'sequence')",
    "if (type === 'luspo' && level === 'sequence_token')",
  ],
  ['loss types in another order', config, "  'bnpo',\n  'dr_grpo',", "  'dr_grpo',\n  'bnpo',"],
  // CUDA kernels, in the simulator
  [
    'CUDA: the shared slope is not divided',
    cudaSteps,
    'load(t.arrays.grad_logps + row) + slope * part',
    'load(t.arrays.grad_logps + row) + slope',
  ],
  [
    'CUDA: a sequence sums only its first rows',
    cudaSteps,
    '  SequenceSums mine;\n  for (int64_t row = begin + thread(); row < end; row += kThreads) {',
    '  SequenceSums mine;\n  for (int64_t row = begin + thread(); row < end && row < begin + kThreads; row += kThreads) {',
  ],
  ['CUDA: masked rows keep stale gradients', cudaSteps, '    store(t.arrays.grad_logps + row, 0.0f);\n', ''],
  ['CUDA: the weight is left out of the shared part', cudaSteps, 'return double(plan.weight) * s.shared;', 'return s.shared;'],
  ['CUDA: radix selection drops a digit', cudaPicks, 'shift >= 0; shift -= 8', 'shift >= 8; shift -= 8'],
  ['CUDA: ties are chosen beyond the count', cudaPicks, '(tie && before < ties)', 'tie'],
  ['CUDA: no barrier after the counts are cleared', cudaPicks, 'counts[i] = 0u;\n    sync();\n', 'counts[i] = 0u;\n'],
  [
    'CUDA: the factor is ignored',
    cudaRow,
    'entropy >= float(t.params.entropy_threshold) ? plan.factor : 0.0f;',
    'entropy >= float(t.params.entropy_threshold) ? 1.0f : 0.0f;',
  ],
  [
    'CUDA: sampler weights of the whole block',
    prepare,
    'sum += sampler_term(p, row, taken && in_mask(p.layout, row));',
    'sum += sampler_term(p, row, taken);',
  ],
  [
    'CUDA: the fault of the first phase is forgotten',
    'native/kernels/cuda/team.h',
    'store(w.carried, total.fault);',
    'store(w.carried, kNoFault);',
  ],
];
