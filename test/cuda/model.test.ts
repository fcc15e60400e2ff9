// The roofline's arithmetic, on numbers that can be checked by hand.
import { expect, test } from '@jest/globals';
import { evaluate } from '../build/scripts';

const occupancy = (arch: string, use: object) => evaluate('cuda/model.mjs', `m.occupancy('${arch}', ${JSON.stringify(use)})`) as object;

test('occupancy: whichever resource runs out first', () => {
  expect(occupancy('sm_90a', { registers: 32, threads: 1024, shared: 0 })).toEqual({ blocks: 2, warps: 64, by: 'registers' });
  expect(occupancy('sm_90a', { registers: 16, threads: 512, shared: 0 })).toEqual({ blocks: 4, warps: 64, by: 'threads' });
  expect(occupancy('sm_90a', { registers: 33, threads: 1024, shared: 0 })).toMatchObject({ blocks: 1, by: 'registers' });
  // 227 KiB is the most that one block may have: one KiB goes to the driver
  expect(occupancy('sm_90a', { registers: 32, threads: 256, shared: 227 * 1024 })).toMatchObject({ blocks: 1, by: 'shared' });
  expect(occupancy('sm_80', { registers: 32, threads: 64, shared: 80 * 1024 })).toMatchObject({ blocks: 2, by: 'shared' });
});

test('instructions per logit: the steady state of both passes, not heads and tails', () => {
  const none = { globalLoads: 0, globalStores: 0, sharedLoads: 0, sharedStores: 0, special: 0, exponentials: 0 };
  const parts = [
    { ...none, instructions: 320, special: 32, exponentials: 32, globalLoads: 4 },
    { ...none, instructions: 100, special: 8, exponentials: 8, globalLoads: 1 }, // its remainder
    { ...none, instructions: 200, special: 16, exponentials: 16, globalStores: 2 },
    { ...none, instructions: 999 }, // no logits at all
  ];
  const of = (list: object[]) => evaluate('cuda/model.mjs', `m.perLogit(${JSON.stringify(list)})`) as unknown;
  expect(of(parts)).toEqual({ instructions: 320 / 32 + 200 / 16, special: 2, passes: 2 });
  expect(of([parts[3]!])).toBeNull();
});

test('the limit: bytes until instructions take longer; wasted bytes are no slack', () => {
  const predict = (use: object) =>
    evaluate('cuda/model.mjs', `m.predict(${JSON.stringify({ leastBytesPerLogit: 4, special: 2, ...use })})`) as {
      limit: string;
      issueSlack: number;
    };
  const issue = (n: number) => n / (132 * 4 * 32 * 1.75e9) / (4 / 4.3e12);
  expect(predict({ bytesPerLogit: 4, instructions: 15 }).limit).toBe('memory');
  expect(predict({ bytesPerLogit: 4, instructions: 15 }).issueSlack).toBeCloseTo(1 - issue(15), 10);
  expect(predict({ bytesPerLogit: 8, instructions: 15 }).issueSlack).toBeCloseTo(1 - issue(15), 10);
  expect(predict({ bytesPerLogit: 4, instructions: 40 }).limit).toBe('issue');
  expect(predict({ bytesPerLogit: 4, instructions: 15, special: 4 }).limit).toBe('special');
});
