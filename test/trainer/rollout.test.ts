import { expect, test } from '@jest/globals';
import { rolloutAdvantages, sampledKl } from '../../lib/trainer/advantages.js';
import { resolveGRPOConfig } from '../../lib/trainer/config.js';
import { minibatch, toBatch, trainedTokens } from '../../lib/trainer/batch.js';
import { decodeRollout, encodeRollout } from '../../lib/trainer/rollout-state.js';
import type { Rollout } from '../../lib/trainer/rollout.js';

function rollout(count: number, numGenerations: number): Rollout {
  const completions = Array.from({ length: count }, (_, i) => ({
    text: `c${i}`,
    tokens: Int32Array.from({ length: (i % 3) + 1 }, (_, t) => 10 * i + t),
    logps: Float32Array.from({ length: (i % 3) + 1 }, (_, t) => -Math.fround(0.1 * t + (i + 1) / 7)),
    finishReason: i % 2 ? ('stop' as const) : ('length' as const),
  }));
  return {
    index: 4,
    prompts: Array.from({ length: count / numGenerations }, (_, p) => `p${p}`),
    promptTokens: Array.from({ length: count / numGenerations }, (_, p) => Int32Array.of(1000 + p, 2000 + p)),
    completions,
    rewards: Float64Array.from(completions, (_, i) => (i === 3 ? NaN : i / 3)),
    rewardsByFunction: [Float64Array.from(completions, (_, i) => (i === 3 ? NaN : i / 3))],
    advantages: Float32Array.from(completions, (_, i) => i - 0.3),
    groupStd: Float32Array.of(1, 2),
    oldLogps: completions.map((c) => c.logps),
    correction: 'token_mask',
    used: 0,
    seconds: { generate: 1, reward: 2, score: 3 },
  };
}

test('minibatches of one iteration cover every completion once, and come again in the next iteration', () => {
  const config = resolveGRPOConfig({
    perDeviceTrainBatchSize: 4,
    gradientAccumulationSteps: 1,
    stepsPerGeneration: 6,
    numGenerations: 4,
    numIterations: 2,
  });
  const r = rollout(24, 4);
  const parts = Array.from({ length: 12 }, (_, used) => [...minibatch({ ...r, used }, config)]);
  expect(parts.every((p) => p.length === 4)).toBe(true);
  expect(
    parts
      .slice(0, 6)
      .flat()
      .sort((a, b) => a - b),
  ).toEqual(Array.from({ length: 24 }, (_, i) => i));
  expect(parts.slice(6)).toEqual(parts.slice(0, 6));
  expect(parts.slice(0, 6).flat()).not.toEqual(Array.from({ length: 24 }, (_, i) => i));
});

test('a batch holds prompt and completion of each chosen completion, aligned', () => {
  const r = rollout(8, 4);
  const batch = toBatch(r, Int32Array.of(5, 2), { numGenerations: 4 });
  expect([...batch.tokens]).toEqual([1001, 2001, 50, 51, 52, 1000, 2000, 20, 21, 22]);
  expect([...batch.offsets]).toEqual([0, 5, 10]);
  expect([...batch.promptLengths]).toEqual([2, 2]);
  expect([...batch.advantages]).toEqual([Math.fround(4.7), Math.fround(1.7)]);
  expect([...batch.truncated!]).toEqual([0, 1]);
  expect([...batch.oldLogps!]).toEqual([...r.completions[5]!.logps!, ...r.completions[2]!.logps!]);
  expect(batch.refLogps).toBeUndefined();
  expect([...batch.samplerLogps!]).toEqual([...batch.oldLogps!]);
  expect(toBatch({ ...r, correction: undefined }, Int32Array.of(5, 2), { numGenerations: 4 }).samplerLogps).toBeUndefined();
  expect(batch.mask).toBeUndefined();
  r.completions[2]!.mask = Uint8Array.of(1, 0, 1);
  expect([...toBatch(r, Int32Array.of(5, 2), { numGenerations: 4 }).mask!]).toEqual([1, 1, 1, 1, 0, 1]);
  expect(trainedTokens(r, Int32Array.of(5, 2), { maskTruncatedCompletions: false })).toBe(5);
  expect(trainedTokens(r, Int32Array.of(5, 2), { maskTruncatedCompletions: true })).toBe(3);
});

test("with a KL in the reward, others' tokens have none", () => {
  const completions = rollout(4, 4).completions.slice(0, 4);
  completions[1]!.mask = Uint8Array.of(1, 0);
  const config = resolveGRPOConfig({ numGenerations: 4, perDeviceTrainBatchSize: 4, beta: 0.5, klInReward: true });
  const total = Float64Array.of(1, 0, 0.5, 2);
  const scored = { total, outcome: total, byFunction: [total], steps: [undefined], failed: [] };
  const context = { config, rewards: [], policy: undefined as never };
  const of = (foreign: number) => {
    const logps = completions.map((c) => c.tokens.length).map((n) => new Float32Array(n).fill(-1));
    const refLogps = logps.map((l) => l.map((v, t) => v - 0.1 * (t + 1)));
    refLogps[1]![1] = foreign;
    const { advantages } = rolloutAdvantages(scored, completions, context, logps, refLogps);
    return [[...advantages], sampledKl(config, completions, logps, refLogps)];
  };
  expect(of(-50)).toEqual(of(-1));
  expect(of(-1)[1]).toBeCloseTo((0.1 + 0.1 + (0.1 + 0.2 + 0.3) + 0.1) / 6, 5);
});

test('a rollout survives JSON exactly', () => {
  const r = rollout(8, 4);
  r.completions[1]!.mask = Uint8Array.of(0, 1);
  delete r.completions[2]!.logps;
  const back = decodeRollout(JSON.parse(JSON.stringify(encodeRollout(r))));
  expect(back).toEqual(r);
  expect(back.advantages).toBeInstanceOf(Float32Array);
});
