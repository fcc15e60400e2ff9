// Mistakes of the caller of the token-sized ops that are found before a kernel runs: a typed error in the caller's words.
import { expect, test } from '@jest/globals';
import {
  gae,
  informativeGroups,
  multiRewardAdvantages,
  passAtKAdvantages,
  preferenceLoss,
  processAdvantages,
  rewardsWithKl,
  valueLoss,
} from '../../lib/index.js';

function failure(f: () => unknown): string {
  try {
    f();
  } catch (error) {
    const e = error as Error & { code?: string };
    return `${e.constructor.name} ${e.code} ${e.message}`;
  }
  throw new Error('nothing was thrown');
}

const f4 = () => new Float32Array(4);
const tokens = { rewards: f4(), values: f4(), completionLength: 2 };
const critic = { values: f4(), returns: f4(), completionLength: 2 };
const pairs = { chosenRewards: f4(), rejectedRewards: f4() };
const steps = {
  stepRewards: [1, 2],
  stepEnds: Int32Array.of(0, 2),
  stepOffsets: Int32Array.of(0, 1, 2),
  completionLength: 2,
  numGenerations: 2,
};
const kl = { rewards: [1, 2], logps: f4(), refLogps: f4(), completionLength: 2 };
const two = { numGenerations: 2 };

const MISTAKES: [() => unknown, RegExp][] = [
  [
    () => gae({ ...tokens, values: undefined as never }),
    /^TypeError ERR_INVALID_ARG Expected a Float32Array for values but received undefined$/,
  ],
  [() => gae({ ...tokens, rewards: new Float32Array(3) }), /^RangeError ERR_INVALID_ARG Expected a Float32Array of length 4 for rewards/],
  [() => gae({ ...tokens, rewards: [0, 0, 0, 0] as never }), /^TypeError ERR_INVALID_ARG .* for rewards but received Array\(4\)$/],
  [() => gae({ ...tokens, lastValues: f4() }), /^RangeError ERR_INVALID_ARG Expected a Float32Array of length 2 for lastValues/],
  [() => gae({ ...tokens, mask: new Uint8Array(2) }), /^RangeError ERR_INVALID_ARG .* for mask/],
  [() => gae({ ...tokens, completionLength: 3 }), /^RangeError ERR_INVALID_ARG Expected a divisor of values.length 4 for completionLength/],
  [() => gae({ ...tokens, advantages: f4() } as never), /^TypeError ERR_UNKNOWN_OPTION Unknown option 'advantages' of gae batch/],
  [() => gae(tokens, { lamda: 1 } as never), /^TypeError ERR_UNKNOWN_OPTION .*did you mean 'lambda'/],
  [() => gae(tokens, { gamma: 1.1 }), /^RangeError ERR_INVALID_ARG Expected a finite number >= 0 and <= 1 for gamma but received 1.1$/],
  [() => gae(tokens, { lambda: NaN }), /^RangeError ERR_INVALID_ARG .*lambda/],
  [() => gae(tokens, { whiten: 1 as never }), /^TypeError ERR_INVALID_ARG Expected true or false for whiten/],
  [() => gae(null as never), /^TypeError ERR_INVALID_ARG Expected an object for gae batch but received null$/],
  [
    () => valueLoss(critic, { cliprangeValue: 0.2 }),
    /^TypeError ERR_INVALID_ARG Expected a Float32Array \(cliprangeValue is given\) for oldValues/,
  ],
  [() => valueLoss({ ...critic, oldValues: f4() }, { cliprangeValue: -1 }), /^RangeError ERR_INVALID_ARG .*>= 0 for cliprangeValue/],
  [() => valueLoss({ ...critic, oldValues: new Float32Array(1) }, { cliprangeValue: 1 }), /^RangeError ERR_INVALID_ARG .*oldValues/],
  [() => valueLoss(critic, { normalizer: 0 }), /^RangeError ERR_INVALID_ARG Expected a finite number > 0 for normalizer/],
  [() => valueLoss(critic, { cliprange: 1 } as never), /^TypeError ERR_UNKNOWN_OPTION/],
  [() => valueLoss({ ...critic, returns: undefined as never }), /^TypeError ERR_INVALID_ARG .*returns/],
  [() => preferenceLoss({ ...pairs, rejectedRewards: new Float32Array(3) }), /^RangeError ERR_INVALID_ARG .*rejectedRewards/],
  [
    () => preferenceLoss({ ...pairs, chosenRewards: 1 as never }),
    /^TypeError ERR_INVALID_ARG Expected a Float32Array for chosenRewards but received 1$/,
  ],
  [() => preferenceLoss({ ...pairs, margins: new Float64Array(4) as never }), /^TypeError ERR_INVALID_ARG .*margins/],
  [() => preferenceLoss({ ...pairs, margin: f4() } as never), /^TypeError ERR_UNKNOWN_OPTION .*did you mean 'margins'/],
  [() => preferenceLoss(pairs, { centerRewardsCoefficient: -1 }), /^RangeError ERR_INVALID_ARG .*centerRewardsCoefficient/],
  [
    () => passAtKAdvantages([1, 0, 1, 0], { k: 3, ...two }),
    /^RangeError ERR_INVALID_ARG Expected at most 2, the size of the smallest group, for k but received 3$/,
  ],
  [
    () => passAtKAdvantages([1, 0, 1], { k: 2, groupOffsets: Int32Array.of(0, 0, 2, 3) }),
    /^RangeError ERR_INVALID_ARG Expected at most 1, /,
  ],
  [() => passAtKAdvantages([1, 0], { k: 0, ...two }), /^RangeError ERR_INVALID_ARG Expected an integer >= 1 for k/],
  [() => passAtKAdvantages([1, 0], { k: 1.5, ...two }), /^RangeError ERR_INVALID_ARG .* for k/],
  [() => passAtKAdvantages([1, 0], two as never), /^TypeError ERR_INVALID_ARG .* for k but received undefined$/],
  [() => passAtKAdvantages([1, 0], { k: 1 } as never), /^TypeError ERR_INVALID_ARG .*numGenerations/],
  [() => passAtKAdvantages([true, false] as never, { k: 1, ...two }), /^TypeError ERR_INVALID_ARG Expected a number for rewards\[0\]/],
  [
    () => processAdvantages({ ...steps, stepEnds: Int32Array.of(0, 1) }),
    /^RangeError ERR_INVALID_ARG Expected a position of sequence 1, from 2 to 3, for stepEnds\[1\] but received 1$/,
  ],
  [
    () => processAdvantages({ ...steps, stepEnds: Int32Array.of(1, 1), stepOffsets: Int32Array.of(0, 2, 2) }),
    /^RangeError ERR_INVALID_ARG Expected more than 1, the end of the step before, for stepEnds\[1\] but received 1$/,
  ],
  [() => processAdvantages({ ...steps, stepEnds: Int32Array.of(0, 4) }), /^RangeError ERR_INVALID_ARG .*stepEnds\[1\] but received 4$/],
  [() => processAdvantages({ ...steps, stepEnds: Int32Array.of(-1, 2) }), /^RangeError ERR_INVALID_ARG .*stepEnds\[0\] but received -1$/],
  [
    () => processAdvantages({ ...steps, stepEnds: [0, 2] as never }),
    /^TypeError ERR_INVALID_ARG Expected an Int32Array of length 2 for stepEnds/,
  ],
  [
    () => processAdvantages({ ...steps, stepOffsets: Int32Array.of(0, 1, 3) }),
    /^RangeError ERR_INVALID_ARG Expected 2, the number of steps .* for stepOffsets\[2\]/,
  ],
  [
    () => processAdvantages({ ...steps, stepOffsets: Int32Array.of(0, 2, 1, 2), numGenerations: 3 }),
    /^RangeError ERR_INVALID_ARG .*non-decreasing/,
  ],
  [
    () => processAdvantages({ ...steps, stepOffsets: undefined as never }),
    /^TypeError ERR_INVALID_ARG .*stepOffsets but received undefined$/,
  ],
  [
    () => processAdvantages({ ...steps, completionLength: undefined } as never),
    /^TypeError ERR_INVALID_ARG .*offsets but received undefined$/,
  ],
  [
    () => processAdvantages({ ...steps, completionLength: undefined, offsets: Int32Array.of(0, 4) }),
    /^RangeError ERR_INVALID_ARG Expected an Int32Array of length 2 for stepOffsets/,
  ],
  [
    () => processAdvantages({ ...steps, offsets: Int32Array.of(0, 2, 4) } as never),
    /^TypeError ERR_INCOMPATIBLE_OPTIONS Give either offsets or completionLength, not both$/,
  ],
  [
    () => processAdvantages({ ...steps, numGenerations: 3 }),
    /^RangeError ERR_INVALID_ARG Expected a divisor of the number of sequences, 2, for numGenerations/,
  ],
  [
    () => processAdvantages(steps, { scaleRewards: 'batch' as never }),
    /^RangeError ERR_INVALID_ARG Expected one of 'group', 'none' for scaleRewards/,
  ],
  [() => processAdvantages(steps, { eps: -1 }), /^RangeError ERR_INVALID_ARG .*eps/],
  [
    () => multiRewardAdvantages([1, 2] as never, two),
    /^TypeError ERR_INVALID_ARG Expected an array with the rewards of each function for rewards/,
  ],
  [() => multiRewardAdvantages([], two), /^TypeError ERR_INVALID_ARG .* for rewards but received Array\(0\)$/],
  [
    () => multiRewardAdvantages([[1, 2], [1]], two),
    /^RangeError ERR_INVALID_ARG Expected 2 rewards, as rewards\[0\] has, for rewards\[1\]/,
  ],
  [
    () =>
      multiRewardAdvantages(
        [
          [1, 2],
          [1, null as never],
        ],
        two,
      ),
    /^TypeError ERR_INVALID_ARG Expected a number for rewards\[1\]\[1\] but received null$/,
  ],
  [
    () => multiRewardAdvantages([[1, 2]], { ...two, rewardWeights: [1, 2] }),
    /^RangeError ERR_INVALID_ARG Expected one weight per reward function \(1\) for rewardWeights/,
  ],
  [() => multiRewardAdvantages([[1, 2]], { ...two, rewardWeights: [NaN] }), /^RangeError ERR_INVALID_ARG .*rewardWeights\[0\]/],
  [
    () => multiRewardAdvantages([[1, 2]], { ...two, multiObjectiveAggregation: 'sum' as never }),
    /^RangeError ERR_INVALID_ARG .*'sum_then_normalize', 'normalize_then_sum'/,
  ],
  ...(['scaleRewards', 'baseline'] as const).map((name): [() => unknown, RegExp] => [
    () => multiRewardAdvantages([[1, 2]], { ...two, multiObjectiveAggregation: 'normalize_then_sum', [name]: 'none' }),
    new RegExp(`^TypeError ERR_INCOMPATIBLE_OPTIONS .* no ${name} 'none'$`),
  ]),
  [() => multiRewardAdvantages([[1, 2]], { ...two, weights: [1] } as never), /^TypeError ERR_UNKNOWN_OPTION/],
  [() => rewardsWithKl(kl, {} as never), /^TypeError ERR_INVALID_ARG .* for beta but received undefined$/],
  [() => rewardsWithKl(kl, { beta: -1 }), /^RangeError ERR_INVALID_ARG .* for beta/],
  [
    () => rewardsWithKl({ ...kl, rewards: [1] }, { beta: 1 }),
    /^RangeError ERR_INVALID_ARG Expected one reward per sequence \(2\) for rewards/,
  ],
  [() => rewardsWithKl({ ...kl, refLogps: undefined as never }, { beta: 1 }), /^TypeError ERR_INVALID_ARG .*refLogps/],
  [
    () => rewardsWithKl(kl, { beta: 1, klEstimator: 'k4' as never }),
    /^RangeError ERR_INVALID_ARG Expected one of 'k1', 'k2', 'k3' for klEstimator/,
  ],
  [() => informativeGroups([0, 1] as never, two), /^TypeError ERR_INVALID_ARG Expected a Uint8Array, or a result that has it/],
  [() => informativeGroups(new Uint8Array(2), {} as never), /^TypeError ERR_INVALID_ARG .*numGenerations/],
  [
    () => informativeGroups(new Uint8Array(2), { groupOffsets: Int32Array.of(0, 4) }),
    /^TypeError ERR_INVALID_ARG .*\(3\) for groupOffsets/,
  ],
  [() => informativeGroups(new Uint8Array(2), { groupOffsets: Int32Array.of(0, 5, 4) }), /^RangeError ERR_INVALID_ARG .*non-decreasing/],
  [() => informativeGroups(new Uint8Array(1), { ...two, k: 1 } as never), /^TypeError ERR_UNKNOWN_OPTION/],
];

test.each(MISTAKES)('mistake %#', (f, message) => expect(failure(f)).toMatch(message));
