// Every mistake that the C ABI promises to find, in every field of every struct: a status, a message that names the field, and nothing
// written. The fields come from abi.json: a field that is added is tested without anyone thinking of it.
import { describe, expect, test } from '@jest/globals';
import { GOOD, WITHOUT_SCRATCH, afterMistake, set } from './calls.js';
import { CONTENTS, OFFSETS } from './contents.js';
import { UNSET, abi } from './library.js';

const OPS = Object.keys(GOOD);
/** Pointers that may be NULL, for what the calls of calls.ts ask. */
const OPTIONAL = [
  'lse',
  'entropies',
  'margins',
  'last_values',
  'clip_ratio',
  'accuracy',
  'margin',
  'mask',
  'pool',
  'grad_entropies',
  'grad',
  'logps',
];
/** The GPU's alone: not looked at. */
const unused = (op: string, field: string) => field === 'scratch' && WITHOUT_SCRATCH.includes(op);
const optional = (op: string, struct: string, field: string) =>
  (field === 'mean' || field === 'std' || field === 'zero_std'
    ? op === 'group_advantages'
    : field === 'old_logps' || unused(op, field) || (OPTIONAL.includes(field) && !REQUIRED.has(`${op}.${field}`))) &&
  !(struct === 'args' && field === 'batch');
const REQUIRED = new Set([
  'policy_loss.entropies',
  'policy_loss.logps',
  'selective_logp.logps',
  'rewards_with_kl.logps',
  'selective_logp_backward.grad',
]);

const fields = OPS.flatMap((op) =>
  Object.entries(GOOD[op]!().structs).flatMap(([struct, { type }]) =>
    Object.entries(abi.structs[type]!.fields)
      .filter(([field]) => field !== 'struct_size' && struct !== 'metrics')
      .map(([field, place]) => ({ op, struct, field, type: place.replace(/^\d+ \d+ /, '') })),
  ),
);
const of = (...types: string[]) => fields.filter((f) => types.includes(f.type));

test.each(OPS)('%s: the good call is good, and writes everything', (op) => {
  const c = GOOD[op]!();
  expect(c.run()).toEqual({ status: 'FG_OK', message: '', argument: '', index: -1, sequence: -1, token: -1 });
  for (const name of c.outputs.filter((n) => n !== 'metrics' && n !== 'grad.data')) expect([...c.arrays[name]!]).not.toContain(77);
  if (c.structs.metrics) expect(c.structs.metrics.get('tokens')).toBe(5);
});

describe('pointers', () => {
  const pointers = fields.filter((f) => f.type.endsWith('*') && f.field !== 'pool');
  test.each(pointers)('$op: $struct.$field NULL', ({ op, struct, field }) => {
    if (optional(op, struct, field)) {
      const c = GOOD[op]!();
      set(struct, field, null)(c);
      expect(c.run().status).toBe('FG_OK');
      return;
    }
    const outcome = afterMistake(op, set(struct, field, null));
    expect(outcome).toMatchObject({ status: 'FG_INVALID_ARG', message: expect.stringMatching(/but received NULL$/) });
    expect(field === 'data' ? struct : outcome.argument).toContain(field === 'data' ? outcome.argument : field);
  });

  const wide = pointers.filter((f) => !/uint8_t/.test(f.type) && !unused(f.op, f.field));
  test.each(wide)('$op: $struct.$field misaligned', ({ op, struct, field }) => {
    const outcome = afterMistake(op, (c) => {
      const [offset] = abi.structs[c.structs[struct]!.type]!.fields[field]!.split(' ');
      const view = new DataView(c.structs[struct]!.bytes.buffer);
      view.setBigInt64(Number(offset), view.getBigInt64(Number(offset), true) + 1n, true);
    });
    expect(outcome).toMatchObject({ status: 'FG_INVALID_ARG', message: expect.stringMatching(/misaligned|a multiple of \d+ as address/) });
  });

  test.each(WITHOUT_SCRATCH)("%s: scratch is the GPU's, and no matter", (op) => {
    const c = GOOD[op]!();
    set('args', 'scratch', 3n)(c);
    expect(c.run().status).toBe('FG_OK');
  });

  test.each(OPS)('%s: an output on every other array', (op) => {
    const names = Object.keys(GOOD[op]!().arrays).filter((n) => n !== 'metrics' && !n.includes('.'));
    const outputs = GOOD[op]!().outputs.filter((n) => n !== 'metrics' && !n.includes('.'));
    expect(names.length + outputs.length).toBeGreaterThan(1);
    for (const name of names)
      for (const out of outputs) {
        if (name === out) continue;
        for (const [at, outAt] of [
          [0, 0],
          [0, 2],
          [2, 0],
        ] as const) {
          const c = GOOD[op]!();
          const earlier = c.arrays[at < outAt ? name : out]!;
          if (at !== outAt && earlier.byteLength <= 16) continue; // ends before the other begins
          const shared = new Float64Array(4096).fill(1); // room for both, whatever their types
          const given = c.arrays[name]!;
          new Uint8Array(shared.buffer, 8 * at).set(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
          const before = Buffer.from(shared.slice().buffer);
          c.structs.args!.set({ [name]: shared.subarray(at), [out]: shared.subarray(outAt) });
          const outcome = c.run();
          expect(outcome).toMatchObject({ status: 'FG_INVALID_ARG', message: expect.stringContaining('lies there too') });
          expect(before.equals(Buffer.from(shared.buffer))).toBe(true);
        }
      }
  });

  test('a gradient partly on the logits is refused, exactly on them is not', () => {
    for (const op of ['selective_logp_backward', 'grpo_loss']) {
      const shifted = afterMistake(op, (c) => {
        const data = c.arrays['logits.data'] as Float32Array;
        const room = new Float32Array(data.length + 8);
        c.structs.logits!.set({ data: room });
        c.structs.grad!.set({ data: room.subarray(4) });
      });
      expect(shifted).toMatchObject({ status: 'FG_INVALID_ARG', argument: 'grad' });
      const inPlace = GOOD[op]!();
      inPlace.structs.grad!.set({ data: inPlace.arrays['logits.data'] });
      expect(inPlace.run().status).toBe('FG_OK');
    }
  });
});

describe('numbers', () => {
  const counts = of('int64_t');
  test.each(counts)('$op: $struct.$field negative, or too large', ({ op, struct, field }) => {
    for (const bad of [-1n, -(1n << 63n), 1n << 31n, (1n << 63n) - 1n]) {
      if (/stride/.test(field) && bad === 1n << 31n) continue; // possible, where memory is large enough
      const outcome = afterMistake(op, set(struct, field, bad));
      expect(outcome.status).toBe('FG_INVALID_ARG');
      expect(outcome.argument).toContain(/stride/.test(field) ? struct : field);
    }
  });

  test.each(of('double'))('$op: $struct.$field NaN and infinite', ({ op, struct, field }) => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const outcome = afterMistake(op, set(struct, field, bad));
      expect(outcome).toMatchObject({ status: 'FG_INVALID_ARG', argument: field });
    }
  });

  test.each(of('int32_t').filter((f) => f.field !== 'use_bias_correction_kl' && f.field !== 'threads'))(
    '$op: $struct.$field: what no enumerator has, what is no flag',
    ({ op, struct, field }) => {
      for (const bad of [-1, 13, 0x7fffffff, -0x80000000]) {
        const outcome = afterMistake(op, set(struct, field, bad));
        expect(outcome.status).toBe('FG_INVALID_ARG');
        expect(outcome.argument.endsWith(field)).toBe(true);
      }
    },
  );

  test.each([
    ['fg_exec', 'threads', -1],
    ['fg_exec', 'threads', 1025],
    ['fg_loss_options', 'use_bias_correction_kl', -2],
    ['fg_loss_options', 'temperature', 0],
    ['fg_loss_options', 'temperature', 1e-300],
    ['fg_loss_options', 'temperature', 1e300],
    ['fg_loss_options', 'temperature', UNSET],
    ['fg_loss_options', 'beta', -0.1],
    ['fg_loss_options', 'dual_clip', 1],
    ['fg_loss_options', 'sampler_clip_min', 4],
    ['fg_loss_options', 'normalizer', 0],
    ['fg_matrix', 'vocab', 0],
    ['fg_matrix', 'row_stride', 4],
    ['fg_matrix', 'sequence_stride', 22],
  ])('%s.%s %p', (type, field, bad) => {
    const outcome = afterMistake('grpo_loss', (c) => Object.values(c.structs).forEach((s) => s.type === type && s.set({ [field]: bad })));
    expect(outcome.status).toBe('FG_INVALID_ARG');
    expect(outcome.argument).toContain(field);
  });

  test('options that cannot go together', () => {
    const e = abi.enums;
    const cases: [Record<string, number>, RegExp][] = [
      [{ loss_type: e.FG_LUSPO! }, /^FG_LUSPO needs .*FG_LEVEL_SEQUENCE/],
      [{ loss_type: e.FG_GMPO!, importance_sampling_level: 1 }, /^FG_GMPO has FG_LEVEL_TOKEN/],
      [{ loss_type: e.FG_KL_COV!, delta: 2 }, /^delta bounds a clipped ratio; FG_KL_COV has none/],
      [{ loss_type: e.FG_SAPO!, dual_clip: 2 }, /^dual_clip bounds a clipped ratio; FG_SAPO has none/],
      [{ loss_type: e.FG_VESPO!, sampler_importance_sampling: 3 }, /^FG_VESPO takes/],
      [{ top_entropy_quantile: 0.5, entropy_threshold: 1 }, /^Give either/],
      [{ kl_gradient: 2, use_bias_correction_kl: 1 }, /twice$/],
    ];
    for (const [options, message] of cases)
      expect(afterMistake('grpo_loss', (c) => void c.structs.options!.set(options))).toMatchObject({
        status: 'FG_INCOMPATIBLE_OPTIONS',
        message: expect.stringMatching(message),
      });
    const needs = (options: Record<string, number>) => afterMistake('policy_loss', (c) => void c.structs.options!.set(options)).argument;
    expect(needs({ loss_type: e.FG_CISPO! })).toBe('epsilon_high');
    expect(needs({ loss_type: e.FG_DR_GRPO! })).toBe('max_completion_length');
    for (const bad of [{ scale_rewards: 1 }, { baseline: 1 }, { transform: 1 }, { exclude_non_finite: 1 }])
      expect(afterMistake('process_advantages', (c) => void c.structs.options!.set(bad)).status).toBe('FG_INCOMPATIBLE_OPTIONS');
    for (const bad of [{ scale_rewards: 1 }, { baseline: 1 }, { transform: 1 }])
      expect(
        afterMistake('multi_reward_advantages', (c) => {
          c.structs.args!.set({ multi_objective_aggregation: 1 });
          c.structs.options!.set(bad);
        }).status,
      ).toBe('FG_INCOMPATIBLE_OPTIONS');
  });
});

describe('contents', () => {
  test.each(OFFSETS)('%s: %s.%s: %p', (op, struct, field, values) => {
    const outcome = afterMistake(op, set(struct, field, values));
    expect(outcome).toMatchObject({ status: 'FG_INVALID_ARG', argument: expect.stringContaining(field) });
    expect(outcome.index).toBeGreaterThanOrEqual(0);
  });

  test.each(CONTENTS)('%s: %s.%s: %s', (op, struct, field, values, message, index, sequence, token) => {
    const outcome = afterMistake(op, set(struct, field, values));
    expect(outcome.message).toContain(message);
    expect(outcome).toMatchObject({ index, sequence, token });
  });

  test('a row of logits is named; other rows are whole', () => {
    const c = GOOD.selective_logp!();
    (c.arrays['logits.data'] as Float32Array)[2 * 6 + 1] = NaN;
    expect(c.run()).toMatchObject({ status: 'FG_NON_FINITE', argument: 'logits', index: 2, sequence: 2, token: 0 });
    const logps = c.arrays.logps as Float32Array;
    expect([logps[2], logps[3]]).toEqual([0, 0]);
    expect(logps[5]).toBeLessThan(0);
  });
});
