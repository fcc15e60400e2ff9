import { expect, test } from '@jest/globals';
import { groupAdvantages, informativeGroups, processAdvantages } from '../../lib/index.js';

const lists = (x: ReturnType<typeof informativeGroups>) => [Array.from(x.groups), Array.from(x.completions)];

test('groups of equal size', () => {
  const made = groupAdvantages([1, 1, 0, 1, 0, 0, 1, 2], { numGenerations: 2 });
  expect(lists(informativeGroups(made, { numGenerations: 2 }))).toEqual([
    [1, 3],
    [2, 3, 6, 7],
  ]);
  expect(lists(informativeGroups(made.zeroStd, { numGenerations: 2 }))).toEqual(lists(informativeGroups(made, { numGenerations: 2 })));
});

test('groups of other sizes; of one and of none, they teach nothing', () => {
  const where = { groupOffsets: Int32Array.of(0, 1, 1, 4, 6) };
  expect(lists(informativeGroups(groupAdvantages([1, 1, 0, 1, 3, 3], where), where))).toEqual([[2], [1, 2, 3]]);
});

test('all, none, and no groups at all', () => {
  const where = { numGenerations: 3 };
  expect(lists(informativeGroups(new Uint8Array(2), where))).toEqual([
    [0, 1],
    [0, 1, 2, 3, 4, 5],
  ]);
  expect(lists(informativeGroups(Uint8Array.of(1, 1), where))).toEqual([[], []]);
  expect(lists(informativeGroups(new Uint8Array(0), where))).toEqual([[], []]);
  expect(informativeGroups(new Uint8Array(1), where).groups).toBeInstanceOf(Int32Array);
});

test('a view into other memory, and the result of processAdvantages', () => {
  expect(lists(informativeGroups(Uint8Array.of(1, 0, 1).subarray(1), { numGenerations: 1 }))).toEqual([[0], [0]]);
  const steps = { stepRewards: [1, 1, 0, 1], stepEnds: Int32Array.of(0, 1, 2, 3), stepOffsets: Int32Array.of(0, 1, 2, 3, 4) };
  const made = processAdvantages({ ...steps, completionLength: 1, numGenerations: 2 });
  expect(lists(informativeGroups(made, { numGenerations: 2 }))).toEqual([[1], [2, 3]]);
});
