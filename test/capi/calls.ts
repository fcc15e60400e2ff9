// A good call of every op, small, from which mistakes are made: its structs by name, and the arrays that it writes.
import { expect } from '@jest/globals';
import { Random } from '../support/random.js';
import { Struct, attempt, scratchFor, type Outcome } from './library.js';

type Array_ = Float32Array | Float64Array | Int32Array | Uint8Array;

export interface GoodCall {
  op: string;
  structs: Record<string, Struct>;
  arrays: Record<string, Array_>;
  outputs: string[];
  run: () => Outcome;
}

const [N, B, V, G, K, S] = [6, 3, 5, 1, 2, 4];
const OFFSETS = [0, 2, 2, 6];

/** Arrays by field name; those in `outputs` are written. */
interface Shape {
  inputs?: Record<string, Array_>;
  outputs?: Record<string, number | Float64Array | Uint8Array>;
  values?: Record<string, number>;
}

const random = new Random(5);
const normal = (n: number) => Float32Array.from({ length: n }, () => random.normal());
const doubles = (...v: number[]) => Float64Array.from(v);
const layout = () =>
  new Struct('fg_layout', { rows: N, sequences: B, offsets: Int32Array.from(OFFSETS), mask: Uint8Array.of(1, 1, 1, 0, 1, 1) });
const matrix = (data: Array_) => new Struct('fg_matrix', { data, vocab: V, row_stride: V + 1 });
const targets = () => Int32Array.of(0, 4, 1, 0, 2, 3);

function build(
  op: string,
  structs: Record<string, Struct>,
  shape: Shape,
  last: (structs: Record<string, Struct>) => (Struct | null)[],
): GoodCall {
  const arrays: Record<string, Array_> = { ...shape.inputs };
  for (const [name, of] of Object.entries(shape.outputs ?? {})) arrays[name] = typeof of === 'number' ? new Float32Array(of) : of;
  const args = new Struct(`fg_${op}_args`, { ...structs, ...arrays, ...shape.values });
  const all = { args, ...structs };
  const outputs = Object.keys(shape.outputs ?? {});
  for (const name of outputs) arrays[name]!.fill(77);
  for (const name of ['logits', 'grad']) if (structs[name]) arrays[`${name}.data`] = MATRICES.get(structs[name])!;
  if (structs.grad) outputs.push('grad.data');
  const call: GoodCall = { op, structs: all, arrays, outputs, run: () => attempt(`fg_${op}`, args, ...last(all)) };
  if (WITHOUT_SCRATCH.includes(op)) return call;
  const scratch = scratchFor(`fg_${op}`, args);
  arrays.scratch = scratch;
  args.set({ scratch, scratch_bytes: scratch.length });
  return call;
}
/** On the CPU. */
export const WITHOUT_SCRATCH = ['pass_at_k_advantages', 'rewards_with_kl', 'value_loss', 'preference_loss'];
const MATRICES = new Map<Struct, Array_>();
function logitsAndGrad(): Record<string, Struct> {
  const out: Record<string, Struct> = {};
  for (const name of ['logits', 'grad']) {
    const data = name === 'grad' ? new Float32Array(N * (V + 1)).fill(77) : normal(N * (V + 1));
    out[name] = matrix(data);
    MATRICES.set(out[name], data);
  }
  return out;
}

function policyBatch(of: Struct): Struct {
  const logps = () => normal(N).map((v) => -Math.abs(v));
  return new Struct('fg_policy_batch', {
    layout: of,
    truncated: new Uint8Array(B),
    old_logps: logps(),
    ref_logps: logps(),
    sampler_logps: logps(),
    advantages: normal(B),
  });
}

function policy(kind: 'policy_loss' | 'grpo_loss'): GoodCall {
  const l = layout();
  const metrics = new Struct('fg_metrics');
  const structs = {
    layout: l,
    batch: policyBatch(l),
    metrics,
    options: new Struct('fg_loss_options', LOSS),
    exec: new Struct('fg_exec', { threads: 2 }),
  };
  const last = (s: Record<string, Struct>) => [s.options!, s.exec!];
  const { layout: _, options: __, exec: ___, ...fields } = structs;
  const call =
    kind === 'policy_loss'
      ? build(
          'policy_loss',
          fields,
          { inputs: { logps: normal(N), entropies: normal(N) }, outputs: { grad_logps: N, grad_entropies: N } },
          last2,
        )
      : build(
          'grpo_loss',
          { ...fields, ...logitsAndGrad() },
          { inputs: { targets: targets() }, outputs: { logps: N, lse: N, entropies: N } },
          last2,
        );
  function last2(): (Struct | null)[] {
    return last(structs);
  }
  Object.assign(call.structs, structs);
  call.arrays.metrics = metrics.bytes;
  call.outputs.push('metrics');
  return call;
}
/** Options that make every array be read. */
const LOSS = { beta: 0.1, sampler_importance_sampling: 1, mask_truncated_completions: 1, entropy_coef: 0.01 };

function logp(kind: 'selective_logp' | 'selective_logp_backward'): GoodCall {
  const exec = new Struct('fg_exec', { threads: 2 });
  const { logits, grad } = logitsAndGrad() as { logits: Struct; grad: Struct };
  const shape: Shape = { inputs: { targets: targets() } };
  if (kind === 'selective_logp') shape.outputs = { logps: N, lse: N, entropies: N };
  else Object.assign(shape.inputs!, { grad_logps: normal(N), grad_entropies: normal(N) });
  const call = build(kind, { layout: layout(), logits, ...(kind === 'selective_logp' ? {} : { grad }) }, shape, () => [exec]);
  call.structs.exec = exec;
  return call;
}

const statistics = () => ({ mean: G, std: G, zero_std: new Uint8Array(G) });
const groups = (count: number) => Int32Array.of(0, count);
function advantages(op: string, shape: Shape, structs: Record<string, Struct> = {}): GoodCall {
  const options = new Struct('fg_advantage_options');
  const call = build(op, structs, shape, () => [options]);
  call.structs.options = options;
  return call;
}

const loss = () => new Float64Array(1);
const nothing = () => [];
export const GOOD: Record<string, () => GoodCall> = {
  selective_logp: () => logp('selective_logp'),
  selective_logp_backward: () => logp('selective_logp_backward'),
  policy_loss: () => policy('policy_loss'),
  grpo_loss: () => policy('grpo_loss'),
  group_advantages: () =>
    advantages('group_advantages', {
      inputs: { rewards: doubles(1, 0, 2), group_offsets: groups(B) },
      outputs: { advantages: B, ...statistics() },
      values: { count: B, groups: G },
    }),
  multi_reward_advantages: () =>
    advantages('multi_reward_advantages', {
      inputs: { rewards: doubles(1, 0, 2, 1, NaN, 3), reward_weights: doubles(1, 2), group_offsets: groups(B) },
      outputs: { advantages: B, ...statistics() },
      values: { count: B, groups: G, functions: K },
    }),
  process_advantages: () =>
    advantages(
      'process_advantages',
      {
        inputs: {
          step_rewards: doubles(1, 0, 2, 1),
          step_ends: Int32Array.of(1, 2, 4, 5),
          step_offsets: Int32Array.of(0, 1, 1, S),
          group_offsets: groups(B),
        },
        outputs: { advantages: N, ...statistics() },
        values: { steps: S, groups: G },
      },
      { layout: layout().set({ mask: null }) },
    ),
  pass_at_k_advantages: () =>
    build(
      'pass_at_k_advantages',
      {},
      {
        inputs: { rewards: doubles(1, 0, 1), group_offsets: groups(B) },
        outputs: { advantages: B, pass_at_k: G },
        values: { count: B, groups: G, k: 2 },
      },
      nothing,
    ),
  rewards_with_kl: () =>
    build(
      'rewards_with_kl',
      { layout: layout() },
      {
        inputs: { rewards: doubles(1, 0, 2), logps: normal(N), ref_logps: normal(N) },
        outputs: { out: new Float64Array(B) },
        values: { beta: 0.1 },
      },
      nothing,
    ),
  gae: () =>
    build(
      'gae',
      { layout: layout() },
      { inputs: { rewards: normal(N), values: normal(N), last_values: normal(B) }, outputs: { advantages: N, returns: N } },
      nothing,
    ),
  value_loss: () =>
    build(
      'value_loss',
      { layout: layout() },
      {
        inputs: { values: normal(N), returns: normal(N), old_values: normal(N) },
        outputs: { grad_values: N, loss: loss(), clip_ratio: loss() },
        values: { cliprange_value: 0.2 },
      },
      nothing,
    ),
  preference_loss: () =>
    build(
      'preference_loss',
      {},
      {
        inputs: { chosen_rewards: normal(B), rejected_rewards: normal(B), margins: normal(B) },
        outputs: { grad_chosen: B, grad_rejected: B, loss: loss(), accuracy: loss(), margin: loss() },
        values: { pairs: B },
      },
      nothing,
    ),
};

const bytesOf = (a: Array_) => Buffer.from(a.buffer, a.byteOffset, a.byteLength);
/** All that the call may write, to be compared. Scratch does not count. */
export const written = (call: GoodCall): Buffer => Buffer.concat(call.outputs.map((name) => bytesOf(call.arrays[name]!)));

/** What a mistake in a good call leads to; fails when anything was written. */
export function afterMistake(op: string, mistake: (c: GoodCall) => void): Outcome {
  const c = GOOD[op]!();
  mistake(c);
  const before = written(c);
  const outcome = c.run();
  expect(written(c).equals(before)).toBe(true);
  return outcome;
}
export const set = (struct: string, field: string, value: unknown) => (c: GoodCall) =>
  void c.structs[struct]!.set({ [field]: value as number });
