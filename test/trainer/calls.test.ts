// Time-outs, retries and limits of reward calls, alone and through scoreRewards.
import { describe, expect, jest, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { callWithRetries, mapLimited } from '../../lib/trainer/calls.js';
import type { RewardFn, RewardInput } from '../../lib/trainer/reward-types.js';
import { nameRewards, scoreRewards, type ScoreOptions } from '../../lib/trainer/rewards.js';
import { FusedGrpoError } from '../../lib/errors.js';

const input: RewardInput = {
  prompts: ['p', 'p'],
  completions: ['a', 'bb'],
  completionTokens: [],
  trainerState: { step: 0, totalSteps: 1, epoch: 0 },
};
const score = (fns: RewardFn | RewardFn[], options: Partial<ScoreOptions> = {}) =>
  scoreRewards(nameRewards(fns), input, { timeout: 5, timeoutName: 'rewardTimeout', retryDelay: 0.001, ...options });
const never: RewardFn = () => new Promise(() => undefined);

/** Fails so many times, then gives ones. */
function flaky(failures: number, how: () => never | Promise<never> = () => Promise.reject(new Error('busy'))) {
  const state = { calls: 0 };
  const fn: RewardFn = () => (++state.calls <= failures ? how() : [1, 1]);
  return { fn, state };
}

describe('retries', () => {
  test.each([
    ['rejections', () => Promise.reject(new Error('busy'))],
    [
      'throws',
      () => {
        throw new Error('busy');
      },
    ],
    ['time-outs', () => new Promise<never>(() => undefined)],
  ] as [string, () => Promise<never>][])('after %s', async (_, how) => {
    const { fn, state } = flaky(2, how);
    expect([...(await score(fn, { retries: 2, timeout: 0.02 })).total]).toEqual([1, 1]);
    expect(state.calls).toBe(3);
  });

  test('the last error is told with the count', async () => {
    let calls = 0;
    const judge: RewardFn = () => Promise.reject(new Error(`busy ${++calls}`));
    const error = await score(judge, { retries: 3 }).catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: 'ERR_REWARD',
      message: expect.stringMatching(
        /^Reward function 'judge' failed 4 times; the last time it threw: busy 4 \(calls\.test\.ts:\d+:\d+\)$/,
      ),
    });
    expect((error as Error).cause).toMatchObject({ message: 'busy 4' });
    await expect(score(never, { retries: 1, timeout: 0.01 })).rejects.toThrow(
      "Reward function 'never' failed 2 times; the last time it has not settled within 0.01 s (rewardTimeout)",
    );
  });

  test('none by default, and none for what a retry cannot mend', async () => {
    const once = flaky(1);
    await expect(score(once.fn)).rejects.toThrow("Reward function 'fn' threw: busy");
    expect(once.state.calls).toBe(1);
    let calls = 0;
    await expect(score(() => (++calls, [1]), { retries: 5 })).rejects.toThrow(/returned 1 values for 2 completions/);
    const mistake = () => (++calls, Promise.reject(new FusedGrpoError('ERR_DISPOSED', 'the model was disposed')));
    await expect(score(mistake, { retries: 5 })).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(calls).toBe(2);
  });

  test('the wait doubles', async () => {
    const begin = performance.now();
    await score(flaky(3).fn, { retries: 3, retryDelay: 0.03 });
    expect(performance.now() - begin).toBeGreaterThan(0.9 * (30 + 60 + 120));
  });

  test('an abort ends the wait at once', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 20);
    const begin = performance.now();
    await expect(score(flaky(9).fn, { retries: 9, retryDelay: 50, signal: controller.signal })).rejects.toThrow('enough');
    expect(performance.now() - begin).toBeLessThan(5000);
    const { fn, state } = flaky(0);
    await expect(score(fn, { signal: controller.signal })).rejects.toThrow('enough');
    expect(state.calls).toBe(0); // aborted before: not called
  });
});

describe('signals', () => {
  test('a call that timed out can stop', async () => {
    const signals: AbortSignal[] = [];
    const slow: RewardFn = ({ signal }) => (signals.push(signal!), never(input));
    await expect(score(slow, { timeout: 0.02, retries: 1 })).rejects.toThrow(/failed 2 times/);
    expect(signals.map((s) => s.aborted)).toEqual([true, true]);
    expect((signals[0]!.reason as Error).message).toMatch(/0.02 s/);
    expect(signals[0]).not.toBe(signals[1]);
  });

  test("an abort and another function's failure reach it", async () => {
    const signals: AbortSignal[] = [];
    const slow: RewardFn = ({ signal }) => (signals.push(signal!), never(input));
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 10);
    await expect(score(slow, { signal: controller.signal })).rejects.toThrow('enough');
    await expect(score([slow, () => Promise.reject(new Error('no'))])).rejects.toThrow('no');
    expect(signals.map((s) => s.aborted)).toEqual([true, true]);
  });

  test('it is not aborted by success', async () => {
    let seen: AbortSignal | undefined;
    await score(({ signal }) => ((seen = signal), [1, 1]));
    expect(seen!.aborted).toBe(false);
  });
});

test('rewardConcurrency: functions in flight', async () => {
  let now = 0;
  let most = 0;
  const fns = Array.from({ length: 5 }, (): RewardFn => async () => {
    most = Math.max(most, ++now);
    await sleep(5);
    --now;
    return [1, 2];
  });
  expect([...(await score(fns, { concurrency: 2 })).total]).toEqual([5, 10]);
  expect(most).toBe(2);
  await score(fns);
  expect(most).toBe(5);
});

describe("errors: 'skip'", () => {
  const fine: RewardFn = () => [1, 2];
  const down = () => Promise.reject(new Error('down'));

  test('the others count, and the failure is told', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const { total, byFunction, failed } = await score([fine, down, never], { errors: 'skip', timeout: 0.02 });
    const warnings = warn.mock.calls.map(([message]) => message);
    warn.mockRestore();
    expect([...total]).toEqual([1, 2]);
    expect([...byFunction[1]!, ...byFunction[2]!]).toEqual([NaN, NaN, NaN, NaN]);
    expect(failed.sort()).toEqual(['down', 'never']);
    expect(warnings.join()).toMatch(
      /Reward function 'down' threw: down \(calls\.test\.ts:\d+:\d+\); it has nothing to say about this step's completions \(rewardErrors 'skip'\)/,
    );
  });

  test('all failed: nothing is known', async () => expect([...(await score(down, { errors: 'skip' })).total]).toEqual([NaN, NaN]));

  test('mistakes and aborts still end the step', async () => {
    await expect(score(() => [1], { errors: 'skip' })).rejects.toThrow(/1 values for 2/);
    await expect(score(() => Promise.reject(new FusedGrpoError('ERR_DATA', 'no column')), { errors: 'skip' })).rejects.toThrow('no column');
    await expect(score(never, { errors: 'skip', signal: AbortSignal.timeout(10) })).rejects.toThrow(/timeout/);
  });
});

test('mapLimited: order, and no more work after a failure', async () => {
  const work = async (n: number) => (await sleep(10 - n), n * n);
  expect(await mapLimited([1, 2, 3, 4], 2, undefined, work)).toEqual([1, 4, 9, 16]);
  expect(await mapLimited([], 2, undefined, work)).toEqual([]);
  const started: number[] = [];
  const failing = async (n: number) => {
    started.push(n);
    if (n === 1) throw new Error('first');
    await sleep(5);
  };
  await expect(mapLimited([1, 2, 3, 4], 2, undefined, failing)).rejects.toThrow('first');
  await sleep(20);
  expect(started).toEqual([1, 2]);
});

test('no timer is left behind: a process ends at once after success, failure and abort', () => {
  const calls = join(__dirname, '../../dist/cjs/trainer/calls.js');
  const code = `
    const { callWithRetries } = require(${JSON.stringify(calls)});
    const c = new AbortController();
    const long = { timeout: 1000, retries: 9, retryDelay: 1000 };
    Promise.all([
      callWithRetries('a', () => 1, long),
      callWithRetries('b', () => Promise.reject(new Error('x')), { ...long, signal: c.signal }).catch((e) => e.message),
      callWithRetries('c', () => new Promise(() => undefined), { ...long, signal: c.signal }).catch((e) => e.message),
    ]).then((r) => console.log(JSON.stringify(r)));
    setTimeout(() => c.abort(new Error('enough')), 20);`;
  const run = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', timeout: 20_000 });
  expect(run.status).toBe(0);
  expect(run.stdout.trim()).toBe('[1,"enough","enough"]');
});

test('callWithRetries returns what the call gives', async () => expect(await callWithRetries('x', () => 7, { timeout: 1 })).toBe(7));
