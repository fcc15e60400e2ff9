// Edges of the ops that make advantages from rewards (value_edges.ts has the others).
import { multiRewardAdvantages, passAtKAdvantages, processAdvantages } from '../../lib/index.js';
import { f, ints, nan, notFinite, one, type Edge } from './edge.js';

export const PASS_AT_K: Edge[] = [
  {
    name: 'k = 1 is the z-score',
    run: () => passAtKAdvantages([1, 0, 0, 0], { k: 1, numGenerations: 4 }),
    gives: { passAtK: [0.25], advantages: [Math.sqrt(3), ...new Array<number>(3).fill(-1 / Math.sqrt(3))] },
  },
  {
    name: 'all right, all wrong, too few wrong to fill a subset',
    run: () => passAtKAdvantages([1, 1, 1, 0, 0, 0, 1, 0, 1], { k: 2, numGenerations: 3 }),
    gives: { passAtK: [1, 0, 1], advantages: new Array<number>(9).fill(0) },
  },
  {
    name: 'groups of one and of none',
    run: () => passAtKAdvantages([1, 0], { k: 1, groupOffsets: ints(0, 1, 1, 2) }),
    gives: { passAtK: [1, 0, 0], advantages: [0, 0] },
  },
  { name: 'no completions', run: () => passAtKAdvantages([], { k: 5, groupOffsets: ints(0) }), gives: { passAtK: [], advantages: [] } },
  {
    name: 'binomials far beyond float64: one of 4000 is right, subsets of 2000',
    run: () => {
      const rewards = new Float64Array(4000);
      rewards[7] = 1;
      const { passAtK, advantages } = passAtKAdvantages(rewards, { k: 2000, numGenerations: 4000 });
      return { passAtK, some: advantages.subarray(6, 9) };
    },
    gives: { passAtK: [0.5], some: [-2000 / 3999 / 2000, 1, -2000 / 3999 / 2000] },
  },
  {
    name: 'a reward between 0 and 1',
    run: () => passAtKAdvantages([0, 1, 0.5, nan], { k: 1, numGenerations: 2 }),
    fails: 'RangeError ERR_INVALID_ARG Expected 0 or 1 for rewards[2] but received 0.5',
  },
  {
    name: 'a reward that is neither 0 nor 1 nor finite',
    run: () => passAtKAdvantages([0, nan, 7, 0], { k: 1, numGenerations: 2 }),
    fails: notFinite('rewards[1] but received NaN'),
  },
];

const steps = (stepRewards: number[], stepEnds: number[], stepOffsets: number[]) => ({
  stepRewards,
  stepEnds: Int32Array.from(stepEnds),
  stepOffsets: Int32Array.from(stepOffsets),
});
export const PROCESS: Edge[] = [
  {
    name: 'the steps that end at a token or later',
    run: () =>
      processAdvantages({ ...steps([1, 0, 2], [0, 2, 4], [0, 2, 3]), completionLength: 3, numGenerations: 2 }, { scaleRewards: 'none' }),
    gives: { advantages: [-1, -1, -1, 1, 1, 0], mean: [1], std: [1], zeroStd: [0] },
  },
  {
    name: 'divided by the std of the steps of the group',
    run: () => processAdvantages({ ...steps([1, 0, 2], [0, 2, 4], [0, 2, 3]), completionLength: 3, numGenerations: 2 }, { eps: 1 }),
    gives: { advantages: [-0.5, -0.5, -0.5, 0.5, 0.5, 0], mean: [1], std: [1], zeroStd: [0] },
  },
  {
    name: 'equal step rewards',
    run: () => processAdvantages({ ...steps([0.1, 0.1, 0.1], [0, 1, 2], [0, 2, 3]), offsets: ints(0, 2, 3), numGenerations: 2 }),
    gives: { advantages: [0, 0, 0], mean: [0.1], std: [0], zeroStd: [1] },
  },
  {
    name: 'a sequence without steps, one without tokens, a group of none, one without steps',
    run: () =>
      processAdvantages({
        ...steps([1, 3], [0, 2], [0, 1, 1, 2, 2, 2]),
        offsets: ints(0, 1, 2, 3, 3, 5),
        groupOffsets: ints(0, 3, 3, 5),
      }),
    gives: {
      advantages: [-1 / (Math.SQRT2 + 1e-4), 0, 1 / (Math.SQRT2 + 1e-4), 0, 0],
      mean: [2, 0, 0],
      std: [Math.SQRT2, 0, 0],
      zeroStd: [0, 1, 1],
    },
  },
  {
    name: 'no steps at all, no sequences',
    run: () => processAdvantages({ ...steps([], [], [0]), offsets: ints(0), groupOffsets: ints(0) }),
    gives: { advantages: [], mean: [], std: [], zeroStd: [] },
  },
  {
    name: 'a step reward that is not finite',
    run: () => processAdvantages({ ...steps([1, 3, -Infinity], [0, 1, 2], [0, 1, 2, 3]), ...one, numGenerations: 1 }),
    fails: notFinite('stepRewards[2] but received -Infinity'),
  },
];

const gdpo = { multiObjectiveAggregation: 'normalize_then_sum' } as const;
export const MULTI: Edge[] = [
  {
    name: 'weighted sums of what is there',
    run: () =>
      multiRewardAdvantages([[1, nan, 0, nan], f(2, 2, nan, nan)], { numGenerations: 4, rewardWeights: [3, 0.5], scaleRewards: 'none' }),
    gives: { advantages: [4 - 5 / 3, 1 - 5 / 3, -5 / 3, 0], mean: [5 / 3], std: [Math.sqrt(13 / 3)], zeroStd: [0] },
  },
  {
    name: 'nobody has anything to say about a group',
    run: () => multiRewardAdvantages([[nan, nan, 0, 1]], { numGenerations: 2, eps: 0 }),
    gives: { advantages: [0, 0, -Math.SQRT1_2, Math.SQRT1_2], mean: [0, 0.5], std: [0, Math.SQRT1_2], zeroStd: [1, 0] },
  },
  {
    name: 'normalize_then_sum: two functions that pull apart, and a group that is constant',
    run: () =>
      multiRewardAdvantages(
        [
          [0, 1, 5, 5],
          [0, 10, 0.1, 0.1],
        ],
        { numGenerations: 2, eps: 0, ...gdpo },
      ),
    // z-scores -1/sqrt 2 and 1/sqrt 2 of both; sums -sqrt 2, sqrt 2, 0, 0; std of those sqrt(4 / 3)
    gives: { advantages: [-Math.sqrt(1.5), Math.sqrt(1.5), 0, 0], mean: [5.5, 5.1], std: [11 / Math.SQRT2, 0], zeroStd: [0, 1] },
  },
  ...[gdpo, {}].map((how) => ({
    name: `constant functions ${JSON.stringify(how)}`,
    run: () =>
      multiRewardAdvantages([new Array<number>(6).fill(0.1), new Array<number>(6).fill(1 / 3)], {
        numGenerations: 3,
        rewardWeights: [0.7, 0.1],
        ...how,
      }),
    gives: { advantages: [0, 0, 0, 0, 0, 0], std: [0, 0], zeroStd: [1, 1] },
  })),
  ...[gdpo, {}].map((how) => ({
    name: `groups of one and of none, infinite rewards excluded ${JSON.stringify(how)}`,
    run: () =>
      multiRewardAdvantages(
        [
          [1, -Infinity],
          [nan, Infinity],
        ],
        { groupOffsets: ints(0, 1, 1, 2), nonFinite: 'exclude', ...how },
      ),
    gives: { advantages: [0, 0], mean: [1, 0, 0], std: [0, 0, 0], zeroStd: [1, 1, 1] },
  })),
  ...[gdpo, {}].map((how) => ({
    name: `no completions ${JSON.stringify(how)}`,
    run: () => multiRewardAdvantages([[], []], { groupOffsets: ints(0), ...how }),
    gives: { advantages: [], mean: [], std: [], zeroStd: [] },
  })),
  ...[gdpo, {}].map((how) => ({
    name: `an infinite reward is named by function and completion ${JSON.stringify(how)}`,
    run: () =>
      multiRewardAdvantages(
        [
          [1, nan, 3, 4],
          [1, nan, 3, Infinity],
          [-Infinity, 0, 0, 0],
        ],
        { numGenerations: 2, ...how },
      ),
    fails: notFinite('rewards[1][3] but received Infinity'),
  })),
];
