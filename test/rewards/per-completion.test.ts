import { expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { perCompletion, type OneCompletion } from '../../lib/index.js';
import { inputOf } from './support.js';

const input = inputOf(['a', 'bb', 'ccc', 'dddd', 'e'], { answer: [1, 2, 3, 4, 5], note: 'of the run' });

test('each completion with its row; results in order', async () => {
  const seen: OneCompletion[] = [];
  const reward = perCompletion(async function judge(one) {
    seen.push(one);
    await sleep(10 - 2 * (one.answer as number));
    return one.answer === 3 ? null : one.completion.length;
  });
  expect(reward.name).toBe('judge');
  expect(await reward(input)).toEqual([1, 2, null, 4, 1]);
  expect(seen[1]).toMatchObject({ prompt: 'p', completion: 'bb', answer: 2, trainerState: input.trainerState });
  expect(seen[1]!.completionTokens).toHaveLength(2);
  expect(seen[1]!.signal).toBeInstanceOf(AbortSignal);
  expect(seen[1]).not.toHaveProperty('note');
});

test('synchronous functions, names', async () => {
  expect(await perCompletion(({ answer }) => answer as number)(input)).toEqual([1, 2, 3, 4, 5]);
  expect(perCompletion(() => 1).name).toBe('perCompletion');
  expect(perCompletion(() => 1, { name: 'mine' }).name).toBe('mine');
});

test.each([1, 2, 8])('at most %d at once', async (concurrency) => {
  let now = 0;
  let most = 0;
  const reward = perCompletion(
    async () => {
      most = Math.max(most, ++now);
      await sleep(5);
      --now;
      return 0;
    },
    { concurrency },
  );
  await reward(input);
  expect(most).toBe(Math.min(concurrency, 5));
});

test('a failure aborts the others and starts no more', async () => {
  const aborted: unknown[] = [];
  let started = 0;
  const reward = perCompletion(
    async ({ answer, signal }) => {
      ++started;
      if (answer === 2) throw new Error('no');
      await sleep(2000, undefined, { signal }).catch(() => aborted.push(answer));
      return 0;
    },
    { concurrency: 2 },
  );
  await expect(reward(input)).rejects.toThrow('no');
  await sleep(5);
  expect([started, aborted]).toEqual([2, [1]]);
});

test("the trainer's signal reaches each call", async () => {
  const controller = new AbortController();
  const reward = perCompletion(({ signal }) => sleep(2000, 0, { signal }));
  setTimeout(() => controller.abort(new Error('enough')), 10);
  await expect(reward({ ...input, signal: controller.signal })).rejects.toThrow(/aborted|enough/);
});

test('retries and a time limit of one call', async () => {
  const tries = new Map<unknown, number>();
  const flaky = perCompletion(
    async ({ answer }) => {
      tries.set(answer, (tries.get(answer) ?? 0) + 1);
      if (answer === 2 && tries.get(answer)! < 3) throw new Error('busy');
      if (answer === 4 && tries.get(answer)! < 2) await new Promise(() => undefined);
      return 1;
    },
    { retries: 2, retryDelay: 0.001, timeout: 0.05 },
  );
  expect(await flaky(input)).toEqual([1, 1, 1, 1, 1]);
  expect([...tries]).toEqual(expect.arrayContaining([[1, 1], [2, 3], [4, 2]])); // prettier-ignore
  const broken = perCompletion(() => Promise.reject(new Error('down')), { retries: 1, retryDelay: 0, concurrency: 1 });
  await expect(broken(input)).rejects.toMatchObject({
    code: 'ERR_REWARD',
    message: expect.stringMatching(/^Completion 0 failed 2 times; the last time it threw: down \(per-completion\.test\.ts:\d+:\d+\)$/),
  });
});

test.each([
  [() => perCompletion('x' as never), /a function of one completion/],
  [() => perCompletion(() => 1, { concurrency: 0 }), /concurrency/],
  [() => perCompletion(() => 1, { retries: -1 }), /retries/],
  [() => perCompletion(() => 1, { timeout: 0 }), /timeout/],
  [() => perCompletion(() => 1, { concurency: 2 } as never), /did you mean 'concurrency'/],
  [() => perCompletion(() => 1, { name: 3 } as never), /a name for name/],
])('mistake %#', (make, message) => expect(make).toThrow(message));
