import { expect, test } from '@jest/globals';
import { withReplay } from '../../lib/reward/replay.js';

const fresh = Array.from({ length: 90 }, (_, i) => `new ${i}`);
const history = Array.from({ length: 200 }, (_, i) => `old ${i}`);

test('all fresh rows, a tenth old, none twice, shuffled by the seed', () => {
  const rows = withReplay(fresh, history);
  expect(rows.length).toBe(100);
  expect(new Set(rows).size).toBe(100);
  expect(rows.filter((r) => r.startsWith('new')).sort()).toEqual([...fresh].sort());
  expect(rows.slice(0, 90)).not.toEqual(fresh);
  expect(withReplay(fresh, history)).toEqual(rows);
  expect(withReplay(fresh, history, { seed: 1 })).not.toEqual(rows);
  expect(withReplay(fresh, history, { fraction: 0.5 }).length).toBe(180);
});

test('edges: no history, little of it, none wanted, nothing fresh', () => {
  expect(withReplay(fresh, []).length).toBe(90);
  expect(withReplay(fresh, history.slice(0, 3), { fraction: 0.9 }).length).toBe(93);
  expect(withReplay(fresh, history, { fraction: 0 }).length).toBe(90);
  expect(withReplay([], history)).toEqual([]);
});

test.each([
  [() => withReplay('x' as never, []), /an array of rows for fresh/],
  [() => withReplay([], [], { fraction: 1 }), /from 0 to below 1 for fraction/],
  [() => withReplay([], [], { seed: -1 }), /seed/],
  [() => withReplay([], [], { share: 1 } as object), /share/],
])('bad input %#', (call, message) => expect(call).toThrow(message));
