// The core addon's exports by the C ABI: every call goes to both, and what they give must be the same, bit by bit; a call that one
// refuses the other refuses, too, naming the same element, with nothing written. Results returned are the core's.
import type { CoreAddon } from '../../lib/ops/addon.js';
import { lossMetrics } from '../../lib/ops/policy_loss.js';
import { Struct, UNSET, attempt, scratchFor, type Outcome } from './library.js';

export type Args = Record<string, unknown>;
export type Array_ = Float32Array | Float64Array | Uint8Array | Uint16Array;
interface Call {
  op: string;
  args: Struct;
  options: Struct[];
  outcome: (exec: Struct | null) => Outcome;
  /** By the core's names. */
  outputs: Record<string, Array_>;
  metrics?: () => Record<string, unknown>;
}

export let calls = 0;
/** Ways to run that a call takes turns with. */
const EXECS: (() => Struct | null)[] = [() => null, () => new Struct('fg_exec', { threads: 3 }), () => new Struct('fg_exec')];

const unsetInfinity = (v: unknown): number => (Number.isFinite(v) ? (v as number) : UNSET);
const unsetZero = (v: unknown): number => (v === 0 ? UNSET : (v as number));
const floats = (n: unknown): Float32Array => new Float32Array(n as number).fill(77);
const layoutOf = (a: Args) =>
  new Struct('fg_layout', { rows: a.rows as number, ...pick(a, { sequences: 'sequences', offsets: 'offsets', mask: 'mask' }) });

/** { C's name: the core's name } -> values. */
const pick = (a: Args, names: Record<string, string>) =>
  Object.fromEntries(Object.entries(names).map(([c, js]) => [c, a[js] as number])) as Record<string, number>;

function matrix(a: Args, data: unknown, prefix: '' | 'grad'): Struct {
  const name = (js: string) => (prefix ? `${prefix}${js[0]!.toUpperCase()}${js.slice(1)}` : js);
  const strides = pick(a, { row_stride: name('rowStride'), sequence_stride: name('sequenceStride') });
  return new Struct('fg_matrix', { data: data as Array_, ...pick(a, { dtype: 'dtype', vocab: 'vocab' }), ...strides });
}

const NUMBERS = {
  loss_type: 'lossType',
  importance_sampling_level: 'importanceSamplingLevel',
  kl_estimator: 'klEstimator',
  kl_gradient: 'klGradient',
  use_bias_correction_kl: 'useBiasCorrectionKl',
  exclude_empty_sequences: 'excludeEmpty',
  sampler_importance_sampling: 'samplerImportanceSampling',
  dppo_divergence: 'dppoDivergence',
  clip_cov_seed: 'clipCovSeed',
  max_completion_length: 'maxCompletionLength',
  temperature: 'temperature',
  epsilon: 'epsilon',
  epsilon_high: 'epsilonHigh',
  beta: 'beta',
  entropy_coef: 'entropyCoef',
  top_entropy_quantile: 'topEntropyQuantile',
  sampler_clip_max: 'samplerImportanceSamplingClipMax',
  sapo_temperature_pos: 'sapoTemperaturePos',
  sapo_temperature_neg: 'sapoTemperatureNeg',
  vespo_k_pos: 'vespoKPos',
  vespo_lambda_pos: 'vespoLambdaPos',
  vespo_k_neg: 'vespoKNeg',
  vespo_lambda_neg: 'vespoLambdaNeg',
  dppo_ratio_max: 'dppoRatioMax',
  clip_cov_ratio: 'clipCovRatio',
  clip_cov_low: 'clipCovLow',
  clip_cov_high: 'clipCovHigh',
  kl_cov_ratio: 'klCovRatio',
  kl_cov_coef: 'klCovCoef',
};
const options = (a: Args) =>
  new Struct('fg_loss_options', {
    ...pick(a, NUMBERS),
    mask_truncated_completions: a.truncated ? 1 : 0,
    delta: unsetInfinity(a.delta),
    dual_clip: unsetInfinity(a.dualClip),
    off_policy_mask_threshold: unsetInfinity(a.offPolicyMaskThreshold),
    entropy_threshold: unsetInfinity(a.entropyThreshold),
    sampler_clip_min: unsetInfinity(a.samplerImportanceSamplingClipMin),
    normalizer: unsetZero(a.normalizer),
    entropy_normalizer: unsetZero(a.entropyNormalizer),
  });

const policyBatch = (a: Args, advantages: unknown) =>
  new Struct('fg_policy_batch', {
    layout: layoutOf(a),
    advantages: advantages as Float32Array,
    advantages_per_token: a.advantagesPerToken ? 1 : 0,
    ...pick(a, { truncated: 'truncated', old_logps: 'oldLogps', ref_logps: 'refLogps', sampler_logps: 'samplerLogps' }),
  });

const advantageOptions = (a: Args) =>
  new Struct('fg_advantage_options', {
    ...pick(a, { scale_rewards: 'scaleRewards', baseline: 'baseline', transform: 'transform', ddof: 'ddof', eps: 'eps' }),
    exclude_non_finite: a.excludeNonFinite ? 1 : 0,
  });

/** The last arguments of an op's function: options and, where it runs on threads, how. */
function make(op: string, args: Struct, outputs: Record<string, Array_>, more: Struct[] = [], threads = false): Call {
  let run = (exec: Struct | null) => attempt(op, args, ...more, ...(threads ? [exec] : []));
  if (`${op}_scratch` in SCRATCH) {
    const inner = run;
    run = (exec) => {
      const scratch = scratchFor(op, args);
      args.set({ scratch: scratch.length ? scratch : null, scratch_bytes: scratch.length });
      return inner(exec);
    };
  }
  return { op, args, options: more, outcome: run, outputs };
}
const SCRATCH = Object.fromEntries(
  ['selective_logp', 'selective_logp_backward', 'policy_loss', 'grpo_loss', 'group_advantages', 'multi_reward_advantages']
    .concat(['process_advantages', 'gae'])
    .map((op) => [`fg_${op}_scratch`, true]),
);

const metricsOf = (m: Struct) => () => ({
  loss: m.get('loss'),
  kl: m.get('kl'),
  entropy: m.get('entropy'),
  clipRatio: { low: m.get('clip_ratio_low'), high: m.get('clip_ratio_high') },
  ratio: { min: m.get('ratio_min'), mean: m.get('ratio_mean'), max: m.get('ratio_max') },
  tokens: m.get('tokens'),
  sequences: m.get('sequences'),
});

/** Group statistics. */
function statistics(groups: unknown) {
  return { mean: floats(groups), std: floats(groups), zeroStd: new Uint8Array(groups as number).fill(77) };
}
const statisticFields = (s: ReturnType<typeof statistics>) => ({ mean: s.mean, std: s.std, zero_std: s.zeroStd });
const groupFields = (a: Args) => pick(a, { groups: 'groups', group_offsets: 'groupOffsets' });

const OPS: Record<string, (a: Args) => Call> = {
  selectiveLogp(a) {
    const out = { logps: floats(a.rows), lse: floats(a.rows), ...(a.entropy ? { entropies: floats(a.rows) } : {}) };
    const fields = { layout: layoutOf(a), logits: matrix(a, a.logits, ''), ...pick(a, { targets: 'targets', temperature: 'temperature' }) };
    return make('fg_selective_logp', new Struct('fg_selective_logp_args', { ...fields, ...out }), out, [], true);
  },
  selectiveLogpBackward(a) {
    const { logits, gradLogits } = ownCopies(a);
    const fields = { layout: layoutOf(a), logits: matrix(a, logits, ''), grad: matrix(a, gradLogits, 'grad') };
    const names = { targets: 'targets', temperature: 'temperature', grad_logps: 'gradLogps', grad_entropies: 'gradEntropies' };
    const args = new Struct('fg_selective_logp_backward_args', { ...fields, ...pick(a, names) });
    return make('fg_selective_logp_backward', args, { gradLogits }, [], true);
  },
  policyLoss(a) {
    const metrics = new Struct('fg_metrics');
    const reads = a.entropyCoef !== 0;
    const outputs = { gradLogps: floats(a.rows), ...(reads ? { gradEntropies: floats(a.rows) } : {}) };
    const fields = { batch: policyBatch(a, a.advantages), metrics, ...pick(a, { logps: 'logps', entropies: 'entropies' }) };
    const out = { grad_logps: outputs.gradLogps, grad_entropies: outputs.gradEntropies };
    const args = new Struct('fg_policy_loss_args', { ...fields, ...out });
    return { ...make('fg_policy_loss', args, outputs, [options(a)], true), metrics: metricsOf(metrics) };
  },
  grpoLoss(a) {
    const { logits, gradLogits } = ownCopies(a);
    const metrics = new Struct('fg_metrics');
    const outputs = { gradLogits, logps: floats(a.rows), ...(a.entropy ? { entropies: floats(a.rows) } : {}) };
    const { gradLogits: _, ...out } = outputs;
    const matrices = { logits: matrix(a, logits, ''), grad: matrix(a, gradLogits, 'grad') };
    const fields = { batch: policyBatch(a, a.advantages), ...matrices, metrics, entropy: a.entropy ? 1 : 0, targets: a.targets as Array_ };
    const args = new Struct('fg_grpo_loss_args', { ...fields, ...out });
    return { ...make('fg_grpo_loss', args, outputs, [options(a)], true), metrics: metricsOf(metrics) };
  },
  groupAdvantages(a) {
    const [advantages, s] = [floats(a.count), statistics(a.groups)];
    const fields = { ...pick(a, { count: 'count', rewards: 'rewards' }), ...groupFields(a), advantages, ...statisticFields(s) };
    return make('fg_group_advantages', new Struct('fg_group_advantages_args', fields), { advantages, ...s }, [advantageOptions(a)]);
  },
  multiRewardAdvantages(a) {
    const [advantages, s] = [floats(a.count), statistics(a.groups)];
    const names = { functions: 'functions', count: 'count', rewards: 'rewards', reward_weights: 'rewardWeights' };
    const aggregation = { multi_objective_aggregation: a.multiObjectiveAggregation as number };
    const fields = { ...pick(a, names), ...groupFields(a), ...aggregation, advantages, ...statisticFields(s) };
    const args = new Struct('fg_multi_reward_advantages_args', fields);
    return make('fg_multi_reward_advantages', args, { advantages, ...s }, [advantageOptions(a)]);
  },
  processAdvantages(a) {
    const [advantages, s] = [floats(a.rows), statistics(a.groups)];
    const names = { steps: 'steps', step_rewards: 'stepRewards', step_ends: 'stepEnds', step_offsets: 'stepOffsets' };
    const fields = { layout: layoutOf(a), ...pick(a, names), ...groupFields(a), advantages, ...statisticFields(s) };
    const o = new Struct('fg_advantage_options', pick(a, { scale_rewards: 'scaleRewards', ddof: 'ddof', eps: 'eps' }));
    return make('fg_process_advantages', new Struct('fg_process_advantages_args', fields), { advantages, ...s }, [o]);
  },
  passAtKAdvantages(a) {
    const [advantages, passAtK] = [floats(a.count), floats(a.groups)];
    const fields = { ...pick(a, { count: 'count', k: 'k', rewards: 'rewards' }), ...groupFields(a), advantages, pass_at_k: passAtK };
    return make('fg_pass_at_k_advantages', new Struct('fg_pass_at_k_advantages_args', fields), { advantages, passAtK });
  },
  rewardsWithKl(a) {
    const rewards = new Float64Array(a.sequences as number).fill(77);
    const names = { rewards: 'rewards', logps: 'logps', ref_logps: 'refLogps', beta: 'beta', kl_estimator: 'klEstimator' };
    const args = new Struct('fg_rewards_with_kl_args', { layout: layoutOf(a), ...pick(a, names), out: rewards });
    return make('fg_rewards_with_kl', args, { rewards });
  },
  gae(a) {
    const out = { advantages: floats(a.rows), returns: floats(a.rows) };
    const names = { rewards: 'rewards', values: 'values', last_values: 'lastValues', gamma: 'gamma', lambda: 'lambda' };
    const args = new Struct('fg_gae_args', { layout: layoutOf(a), ...pick(a, names), whiten: a.whiten ? 1 : 0, ...out });
    return make('fg_gae', args, out);
  },
  valueLoss(a) {
    const [gradValues, loss, clipRatio] = [floats(a.rows), new Float64Array(1).fill(77), new Float64Array(1).fill(77)];
    const bounds = { cliprange_value: unsetInfinity(a.cliprangeValue), normalizer: unsetZero(a.normalizer) };
    const inputs = pick(a, { values: 'values', returns: 'returns', old_values: 'oldValues' });
    const out = { grad_values: gradValues, loss, clip_ratio: clipRatio };
    const args = new Struct('fg_value_loss_args', { layout: layoutOf(a), ...inputs, ...bounds, ...out });
    return { ...make('fg_value_loss', args, { gradValues }), metrics: () => ({ loss: loss[0], clipRatio: clipRatio[0] }) };
  },
  preferenceLoss(a) {
    const [gradChosen, gradRejected] = [floats(a.pairs), floats(a.pairs)];
    const [loss, accuracy, margin] = [0, 1, 2].map(() => new Float64Array(1).fill(77)) as [Float64Array, Float64Array, Float64Array];
    const names = { pairs: 'pairs', chosen_rewards: 'chosenRewards', rejected_rewards: 'rejectedRewards', margins: 'margins' };
    const numbers = { center_rewards_coefficient: 'centerRewardsCoefficient', normalizer: 'normalizer' };
    const out = { grad_chosen: gradChosen, grad_rejected: gradRejected, loss, accuracy, margin };
    const call = make('fg_preference_loss', new Struct('fg_preference_loss_args', { ...pick(a, { ...names, ...numbers }), ...out }), {
      gradChosen,
      gradRejected,
    });
    return { ...call, metrics: () => ({ loss: loss[0], accuracy: accuracy[0], margin: margin[0] }) };
  },
};

/** Copies at the same distance from an aligned address: in place stays in place. */
function ownCopies(a: Args): { logits: Array_; gradLogits: Array_ } {
  const copy = (x: Array_) => x.slice() as Array_;
  const logits = copy(a.logits as Array_);
  return { logits, gradLogits: a.gradLogits === a.logits ? logits : copy(a.gradLogits as Array_) };
}

const bytesOf = (x: Array_) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);

export const callOf = (name: string, a: Args): Call => OPS[name]!(a);

/** What the core's result says that the C ABI gives as metrics. */
export function expectedMetrics(name: string, a: Args, out: Args): Record<string, unknown> {
  const t = out.totals as { loss: number; margin: number; count: number; clipped: number; ranked: number };
  const mean = (sum: number, n: number) => (n > 0 ? sum / n : 0);
  if (name === 'valueLoss') return { loss: t.loss, clipRatio: mean(t.clipped, t.count) };
  if (name === 'preferenceLoss')
    return { loss: t.loss, accuracy: mean(t.ranked, a.pairs as number), margin: mean(t.margin, a.pairs as number) };
  const m = out.metrics as Parameters<typeof lossMetrics>[0];
  const { kl, entropy, clipRatio, ...rest } = lossMetrics(m, true, true);
  return { loss: m.loss, kl, entropy, clipRatio: { low: clipRatio.low, high: clipRatio.high }, ...rest };
}

/** The element that a message names, as C says it: "old_logps[2] (sequence 1, token 0)". */
const element = (message: string): string | undefined =>
  /\w+(\[\d+\])+/
    .exec(message)?.[0]
    .replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)
    .replace('finite_advantages; position', '');

export function compareErrors(name: string, error: Error & { code?: string }, outcome: Outcome): void {
  const code = { FG_INVALID_ARG: 'ERR_INVALID_ARG', FG_NON_FINITE: 'ERR_NON_FINITE' }[outcome.status];
  const named = element(error.message);
  if (code !== error.code || (named && !outcome.message.includes(named)))
    throw new Error(`${name}: the core says ${error.code} ${error.message}; C says ${outcome.status} ${outcome.message}`);
}

function compareUnwritten(name: string, call: Call, outcome: Outcome, before: Buffer[]): void {
  if (outcome.argument === 'logits') return; // found while outputs are written
  Object.entries(call.outputs).forEach(([field, array], i) => {
    if (!bytesOf(array).equals(before[i]!)) throw new Error(`${name}: ${field} was written (${outcome.message})`);
  });
}

function compareResults(name: string, a: Args, out: Args, call: Call): void {
  for (const [field, array] of Object.entries(call.outputs)) {
    const want = (field === 'gradLogits' ? a.gradLogits : out[field]) as Array_;
    if (!bytesOf(array).equals(bytesOf(want))) throw new Error(`${name}: ${field} differs: C ${array.join()}, core ${want.join()}`);
  }
  if (!call.metrics) return;
  const [got, want] = [JSON.stringify(call.metrics()), JSON.stringify(expectedMetrics(name, a, out))];
  if (got !== want) throw new Error(`${name}: metrics ${got}, the core's ${want}`);
}

/** An op of both. */
function both(name: string, core: (a: Args) => Args) {
  return (given: Args): unknown => {
    let a = given;
    if (a.rewardArguments) {
      const made = (backendOf as { groupAdvantages?: (a: Args) => Args }).groupAdvantages!(a.rewardArguments as Args);
      a = { ...a, ...made };
    }
    const c = callOf(name, a);
    const before = Object.values(c.outputs).map((x) => Buffer.from(bytesOf(x)));
    const outcome = c.outcome(EXECS[calls++ % EXECS.length]!());
    let out: Args;
    try {
      out = core(given);
    } catch (error) {
      compareErrors(name, error as Error, outcome);
      compareUnwritten(name, c, outcome, before);
      throw error;
    }
    if (outcome.status !== 'FG_OK') throw new Error(`${name}: the core is content; C says ${outcome.message}`);
    compareResults(name, a, out ?? {}, c);
    return out;
  };
}

let backendOf: unknown;
/** Both, as one core addon. */
export function backend(core: CoreAddon): CoreAddon {
  const ops = Object.keys(OPS).map((name) => [name, both(name, (a) => (core as unknown as Record<string, (a: Args) => Args>)[name]!(a))]);
  return (backendOf = { ...core, ...Object.fromEntries(ops) }) as CoreAddon;
}
