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
import { backend, calls } from './backend.js';

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
