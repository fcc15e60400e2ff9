import { expect, test } from '@jest/globals';
import type { RewardFn, RewardInput } from '../../lib/trainer/reward-types.js';
import { nameRewards, scoreRewards } from '../../lib/trainer/rewards.js';

const input: RewardInput = {
  prompts: ['p', 'p', 'p'],
  completions: ['a', 'bb', 'ccc'],
  completionTokens: [],
  trainerState: { step: 0, totalSteps: 1, epoch: 0 },
};
const score = (fns: RewardFn | RewardFn[], options: { weights?: number[]; timeout?: number; signal?: AbortSignal } = {}) =>
  scoreRewards(nameRewards(fns, options.weights), input, { timeout: options.timeout ?? 5, signal: options.signal });

test('sync and async functions, weighted; null leaves a completion to the others', async () => {
  const length: RewardFn = ({ completions }) => completions.map((c) => c.length);
  const some: RewardFn = async () => [10, null, undefined];
  const { total, byFunction } = await score([length, some], { weights: [2, 1] });
  expect([...total]).toEqual([12, 4, 6]);
  expect([...byFunction[1]!]).toEqual([10, NaN, NaN]);
  expect([...(await score(() => new Float32Array([1, 2, 3]))).total]).toEqual([1, 2, 3]);
  expect([...(await score(() => [true, false, true])).total]).toEqual([1, 0, 1]);
  expect([...(await score(() => [null, 1, 2])).total]).toEqual([NaN, 1, 2]);
});

test.each([
  [
    'throws',
    () => {
      throw new Error('boom');
    },
    /Reward function 'reward0' threw: boom/,
  ],
  [
    'rejects',
    async () => {
      throw new Error('later');
    },
    /Reward function 'reward0' threw: later/,
  ],
  ['returns NaN', () => [1, NaN, 0], /returned NaN for completion 1/],
  ['returns Infinity', () => [1, 2, -Infinity], /returned -Infinity for completion 2/],
  ['is one short', () => [1, 2], /returned 2 values for 3 completions/],
  ['returns one number', () => 1, /must return an array of 3 numbers.*it returned number/],
  ['returns nothing', () => undefined, /it returned undefined/],
  ['returns text', () => ['1', '2', '3'], /returned a string for completion 0/],
  ['returns big integers', () => [1n, 2n, 3n], /returned a bigint for completion 0/],
])('a function that %s', async (_what, fn, message) => {
  const error = await score(fn as never).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'ERR_REWARD' });
  expect((error as Error).message).toMatch(message);
});

test('a function that never settles ends at the timeout; an abort ends it at once', async () => {
  const never: RewardFn = () => new Promise(() => undefined);
  await expect(score(never, { timeout: 0.05 })).rejects.toThrow(/'never' has not settled within 0.05 s/);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error('enough')), 20);
  await expect(score(never, { signal: controller.signal })).rejects.toThrow('enough');
});

test('names and weights', () => {
  const same = () => [1];
  expect(nameRewards([same, same, () => [1]]).map((r) => r.name)).toEqual(['same', 'same_2', 'reward2']);
  expect(() => nameRewards([])).toThrow(/at least one reward function/);
  expect(() => nameRewards('reward.mjs')).toThrow(/a function or a RewardModel for rewardFuncs/);
  expect(() => nameRewards([same, 3])).toThrow(/rewardFuncs\[1\]/);
  expect(() => nameRewards([same], [1, 2])).toThrow(/1 numbers, one per reward function/);
});
