// The C ABI gives what the JavaScript ops give, bit by bit: on the random cases of test/ops, and on their edges and mistakes.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { core, substituteCore } from '../../lib/native.js';
import { LOSS_TYPES } from '../../lib/ops/config.js';
import { checkEdge } from '../support/edge.js';
import { makeCase } from '../support/cases.js';
import { sweep } from '../support/sweep.js';
import { EDGES } from '../support/value_edges.js';
import { VALUE_OPS, valueSweep } from '../support/value_sweep.js';
import { grpoLoss, policyLoss } from '../../lib/index.js';
import { Random } from '../support/random.js';
import { backend, calls } from './backend.js';
import { Struct, abi, attempt, scratchFor } from './library.js';

beforeAll(() => substituteCore(backend(core())));
afterAll(() => substituteCore(undefined));

test('random batches, every stage, float32, bfloat16, float16, strides, masks', () => {
  const before = calls;
  sweep('core and C', 1, 150);
  expect(calls - before).toBeGreaterThan(400);
});

test.each(LOSS_TYPES)('random batches of %s', (type) => {
  for (let seed = 1; seed <= 25; ++seed) {
    const c = makeCase(seed, [type]);
    const before = calls;
    grpoLoss({ ...c.batch, logits: c.batch.logits.slice() }, c.config);
    grpoLoss({ ...c.batch, logits: c.batch.logits.slice() }, { ...c.config, entropy: false, inPlace: c.gaps });
    expect(calls - before).toBe(2);
  }
});

// Options that are not given: the init functions' defaults against lib/ops/config.ts.
test.each(LOSS_TYPES)('defaults of %s', (lossType) => {
  const needed = {
    luspo: { importanceSamplingLevel: 'sequence' as const },
    cispo: { epsilonHigh: 5 },
    dr_grpo: { maxCompletionLength: 9 },
  };
  const more = needed[lossType as keyof typeof needed] ?? {};
  const random = new Random(3);
  const numbers = (n: number) => Float32Array.from({ length: n }, () => random.normal());
  const logps = numbers(40).map((v) => -Math.abs(v));
  const batch = {
    logps,
    oldLogps: logps.map((v) => Math.min(v + random.normal(), 0)),
    refLogps: numbers(40),
    advantages: numbers(8),
    completionLength: 5,
  };
  for (const beta of [0, 0.5]) {
    const want = policyLoss(batch, { lossType, beta, ...more });
    const layout = new Struct('fg_layout', { rows: 40, sequences: 8, offsets: Int32Array.from({ length: 9 }, (_, i) => 5 * i) });
    const fields = { old_logps: batch.oldLogps, ref_logps: batch.refLogps, advantages: batch.advantages };
    const gradient = new Float32Array(40);
    const metrics = new Struct('fg_metrics');
    const args = new Struct('fg_policy_loss_args', {
      batch: new Struct('fg_policy_batch', { layout, ...fields }),
      logps,
      grad_logps: gradient,
      metrics,
    });
    const scratch = scratchFor('fg_policy_loss', args);
    args.set({ scratch, scratch_bytes: scratch.length });
    const options = new Struct('fg_loss_options', { loss_type: abi.enums[`FG_${lossType.toUpperCase()}`], beta });
    if (lossType === 'luspo') options.set({ importance_sampling_level: abi.enums.FG_LEVEL_SEQUENCE });
    if (lossType === 'cispo') options.set({ epsilon_high: 5 });
    if (lossType === 'dr_grpo') options.set({ max_completion_length: 9 });
    expect(attempt('fg_policy_loss', args, options, null).message).toBe('');
    expect(metrics.get('loss')).toBe(want.loss);
    expect(gradient).toEqual(want.gradLogps);
  }
});

test('rewards, made advantages of by one function and used by the next', () => {
  const logits = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i * i));
  const batch = { logits, vocabSize: 4, targets: Int32Array.of(0, 1, 2, 3, 0, 1), rewards: [1, 0, 0.5], numGenerations: 3 };
  expect(grpoLoss({ ...batch, completionLength: 2 }).groups!.mean[0]).toBe(0.5);
});

describe.each(VALUE_OPS)('%s', (op) => {
  test('random cases', () => valueSweep(op, 60));
});

test.each(EDGES.map((edge) => [edge.name, edge] as const))('%s', (_name, edge) => checkEdge(edge));

test.each([
  ['oldLogps', Float32Array.of(0, 0, NaN, 0), {}],
  ['refLogps', Float32Array.of(0, 0, 0, Infinity), { beta: 1 }],
  ['samplerLogps', Float32Array.of(0, Infinity, 0, 0), { samplerImportanceSampling: 'token_mask' as const }],
  ['targets', Int32Array.of(0, 3, 0, 0), {}],
  ['targets', Int32Array.of(0, 0, 0, -100), {}],
  ['advantages', Float32Array.of(1, NaN), {}],
])('grpoLoss refuses %s %p and so does C', (name, value, config) => {
  const batch = { logits: new Float32Array(12), vocabSize: 3, targets: Int32Array.of(0, 1, 2, 0), advantages: Float32Array.of(1, -1) };
  expect(() => grpoLoss({ ...batch, completionLength: 2, [name]: value }, config)).toThrow(expect.objectContaining({ name: 'RangeError' }));
});

test.each([NaN, Infinity])('a logit of %p', (bad) => {
  const batch = { vocabSize: 2, targets: Int32Array.of(0, 1), advantages: Float32Array.of(1, 1), completionLength: 1 };
  for (const inPlace of [true, false])
    expect(() => grpoLoss({ ...batch, logits: Float32Array.of(0, 0, 0, bad) }, { inPlace })).toThrow(/row 1/);
});

test.each(['logps', 'entropies'] as const)('policyLoss refuses NaN in %s and so does C', (name) => {
  const batch = {
    logps: Float32Array.of(-1, -1),
    entropies: Float32Array.of(1, 1),
    advantages: Float32Array.of(1, 1),
    completionLength: 1,
  };
  batch[name] = Float32Array.of(0, NaN);
  expect(() => policyLoss(batch, { entropyCoef: 0.1 })).toThrow(expect.objectContaining({ code: 'ERR_NON_FINITE' }));
});
