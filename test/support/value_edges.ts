// Edges of the token-sized ops and mistakes that their kernels find, each with the answer worked out by hand. On every backend the same.
import { gae, preferenceLoss, rewardsWithKl, valueLoss } from '../../lib/index.js';
import { bytes, f, ints, nan, notFinite, one, type Edge } from './edge.js';
import { MULTI, PASS_AT_K, PROCESS } from './reward_edges.js';

const GAE: Edge[] = [
  {
    name: 'lambda 1 is the return less the value',
    run: () => gae({ rewards: f(0, 0, 1), values: f(0.5, 0.25, 0.5), completionLength: 3 }, { lambda: 1 }),
    gives: { advantages: [0.5, 0.75, 0.5], returns: [1, 1, 1] },
  },
  {
    name: 'a masked token is stepped over, and what stands there never read',
    run: () => gae({ rewards: f(1, nan, 2), values: f(1, nan, 3), mask: bytes(1, 0, 1), completionLength: 3 }, { gamma: 0.5, lambda: 0.5 }),
    gives: { advantages: [1.25, 0, -1], returns: [2.25, 0, 2] }, // -1 = 2 - 3; 1 + 0.5 * 3 - 1 - 0.25
  },
  {
    name: 'the value behind the last token',
    run: () => gae({ rewards: f(1, 1), values: f(2, 2), lastValues: f(4, 0), ...one }, { gamma: 0.5, lambda: 1 }),
    gives: { advantages: [1, -1], returns: [3, 1] },
  },
  {
    name: 'the last value of a sequence without a selected token is not read',
    run: () => gae({ rewards: f(1, 1), values: f(0, 0), lastValues: f(nan, 2, nan), mask: bytes(0, 1), offsets: ints(0, 1, 2, 2) }),
    gives: { advantages: [0, 3], returns: [0, 3] },
  },
  {
    name: 'all masked, whitened',
    run: () => gae({ rewards: f(nan, nan), values: f(nan, nan), mask: bytes(0, 0), completionLength: 2 }, { whiten: true }),
    gives: { advantages: [0, 0], returns: [0, 0] },
  },
  {
    name: 'one token, whitened',
    run: () => gae({ rewards: f(5), values: f(1), ...one }, { whiten: true }),
    gives: { advantages: [0], returns: [5] },
  },
  {
    name: 'equal advantages, whitened',
    run: () => gae({ rewards: f(0.1, 0.1, 0.1), values: f(0, 0, 0), ...one }, { whiten: true }),
    gives: { advantages: [0, 0, 0], returns: [0.1, 0.1, 0.1] },
  },
  {
    name: 'whitened by the unbiased variance',
    run: () => gae({ rewards: f(1, 2, 3), values: f(0, 0, 0), ...one }, { whiten: true }),
    gives: { advantages: [-1, 0, 1], returns: [1, 2, 3] },
  },
  {
    name: 'values of 3e38',
    run: () => gae({ rewards: f(0, 0), values: f(3e38, 3e38), completionLength: 2 }, { whiten: true }),
    gives: { advantages: [Math.SQRT1_2, -Math.SQRT1_2], returns: [1.5e37, 0] },
  },
  {
    name: 'no sequences',
    run: () => gae({ rewards: f(), values: f(), offsets: ints(0) }, { whiten: true }),
    gives: { advantages: [], returns: [] },
  },
  {
    name: 'empty sequences',
    run: () => gae({ rewards: f(), values: f(), offsets: ints(0, 0, 0) }),
    gives: { advantages: [], returns: [] },
  },
  {
    name: 'a reward that is not finite',
    run: () => gae({ rewards: f(0, nan, 0), values: f(0, nan, Infinity), lastValues: f(nan), completionLength: 3 }),
    fails: notFinite('rewards[1] but received NaN'),
  },
  {
    name: 'a value that is not finite',
    run: () => gae({ rewards: f(nan, 0, 0), values: f(nan, 0, -Infinity), mask: bytes(0, 1, 1), completionLength: 3 }),
    fails: notFinite('values[2] but received -Infinity'),
  },
  {
    name: 'a last value that is not finite',
    run: () => gae({ rewards: f(0, 0), values: f(0, 0), lastValues: f(0, nan), ...one }, { whiten: true }),
    fails: notFinite('lastValues[1] but received NaN'),
  },
];

const VALUE: Edge[] = [
  {
    name: 'the clipped error is the larger one: no gradient',
    run: () => valueLoss({ values: f(2, 2), oldValues: f(0, 0), returns: f(3, -1), ...one }, { cliprangeValue: 1 }),
    gives: { loss: 3.25, gradValues: [0, 1.5], metrics: { clipRatio: 0.5, tokens: 2 } }, // (4 + 9) / 2 / 2
  },
  {
    name: 'on the bound, and with both errors equal, the gradient is the unclipped one',
    run: () => valueLoss({ values: f(1, 2), oldValues: f(0, 0), returns: f(3, 1.5), ...one }, { cliprangeValue: 1 }),
    gives: { loss: 1.0625, gradValues: [-1, 0.25], metrics: { clipRatio: 0, tokens: 2 } },
  },
  {
    name: 'a range of 0 holds the old value',
    run: () => valueLoss({ values: f(1), oldValues: f(0), returns: f(1), ...one }, { cliprangeValue: 0 }),
    gives: { loss: 0.5, gradValues: [0], metrics: { clipRatio: 1, tokens: 1 } },
  },
  {
    name: "without a range oldValues are not read; the normalizer is the caller's",
    run: () => valueLoss({ values: f(1, nan), oldValues: f(nan, nan), returns: f(3, nan), mask: bytes(1, 0), ...one }, { normalizer: 4 }),
    gives: { loss: 0.5, gradValues: [-0.5, 0], metrics: { clipRatio: 0, tokens: 1 } },
  },
  {
    name: 'all values masked',
    run: () => valueLoss({ values: f(nan), oldValues: f(nan), returns: f(nan), mask: bytes(0), ...one }, { cliprangeValue: 1 }),
    gives: { loss: 0, gradValues: [0], metrics: { clipRatio: 0, tokens: 0 } },
  },
  {
    name: 'no values',
    run: () => valueLoss({ values: f(), returns: f(), offsets: ints(0, 0) }),
    gives: { loss: 0, gradValues: [], metrics: { clipRatio: 0, tokens: 0 } },
  },
  {
    name: 'values NaN',
    run: () => valueLoss({ values: f(0, nan), returns: f(0, nan), ...one }),
    fails: notFinite('values[1] (sequence 1, token 0) but received NaN'),
  },
  {
    name: 'oldValues infinite',
    run: () => valueLoss({ values: f(0), oldValues: f(Infinity), returns: f(nan), ...one }, { cliprangeValue: 1 }),
    fails: notFinite('oldValues[0] but received Infinity'),
  },
  {
    name: 'returns NaN',
    run: () => valueLoss({ values: f(0, 0), returns: f(0, nan), ...one }),
    fails: notFinite('returns[1] (sequence 1, token 0) but received NaN'),
  },
];

const PREFERENCE: Edge[] = [
  {
    name: 'scores that are equal',
    run: () => preferenceLoss({ chosenRewards: f(2), rejectedRewards: f(2) }),
    gives: { loss: Math.LN2, gradChosen: [-0.5], gradRejected: [0.5], metrics: { accuracy: 0, margin: 0 } },
  },
  {
    name: 'scores 1e4 and 6e38 apart',
    run: () => preferenceLoss({ chosenRewards: f(1e4, 0, 3e38), rejectedRewards: f(0, 1e4, -3e38) }, { normalizer: 1 }),
    gives: { loss: 1e4, gradChosen: [0, -1, 0], gradRejected: [0, 1, 0], metrics: { accuracy: 2 / 3, margin: 2e38 } },
  },
  {
    name: 'margins and centering',
    run: () => preferenceLoss({ chosenRewards: f(3), rejectedRewards: f(1), margins: f(2) }, { centerRewardsCoefficient: 0.25 }),
    gives: { loss: Math.LN2 + 4, gradChosen: [1.5], gradRejected: [2.5], metrics: { accuracy: 1, margin: 2 } },
  },
  {
    name: 'no pairs',
    run: () => preferenceLoss({ chosenRewards: f(), rejectedRewards: f(), margins: f() }),
    gives: { loss: 0, gradChosen: [], gradRejected: [], metrics: { accuracy: 0, margin: 0 } },
  },
  {
    name: 'chosenRewards infinite',
    run: () => preferenceLoss({ chosenRewards: f(0, Infinity), rejectedRewards: f(0, nan) }),
    fails: notFinite('chosenRewards[1] but received Infinity'),
  },
  {
    name: 'rejectedRewards NaN',
    run: () => preferenceLoss({ chosenRewards: f(0, nan), rejectedRewards: f(nan, 0), margins: f(nan, 0) }),
    fails: notFinite('rejectedRewards[0] but received NaN'),
  },
  {
    name: 'margins NaN',
    run: () => preferenceLoss({ chosenRewards: f(0), rejectedRewards: f(0), margins: f(nan) }),
    fails: notFinite('margins[0] but received NaN'),
  },
];

const KL: Edge[] = [
  {
    name: 'k1 is the difference of log-probs',
    run: () => ({
      out: rewardsWithKl({ rewards: [1, 2], logps: f(-1, -2, -3), refLogps: f(-2, -2, -5), offsets: ints(0, 1, 3) }, { beta: 0.5 }),
    }),
    gives: { out: [0.5, 1] },
  },
  {
    name: 'what is masked is not read; a completion without tokens keeps its reward',
    run: () => ({
      out: rewardsWithKl(
        { rewards: f(1, 2), logps: f(nan, -1), refLogps: f(-2, nan), mask: bytes(0, 0), offsets: ints(0, 2, 2) },
        { beta: 1 },
      ),
    }),
    gives: { out: [1, 2] },
  },
  {
    name: 'beta 0 reads no log-prob',
    run: () => ({ out: rewardsWithKl({ rewards: [0.1], logps: f(nan), refLogps: f(nan), ...one }, { beta: 0 }) }),
    gives: { out: [0.1] },
  },
  {
    name: 'the difference is bounded at 40',
    run: () => ({ out: rewardsWithKl({ rewards: [0], logps: f(-900), refLogps: f(-1), ...one }, { beta: 1, klEstimator: 'k3' }) }),
    gives: { out: [41 - Math.exp(40)] },
  },
  {
    name: 'no rewards',
    run: () => ({ out: rewardsWithKl({ rewards: [], logps: f(), refLogps: f(), offsets: ints(0) }, { beta: 1 }) }),
    gives: { out: [] },
  },
  {
    name: 'rewards are looked at first',
    run: () => rewardsWithKl({ rewards: [0, nan], logps: f(nan, nan), refLogps: f(0, 0), ...one }, { beta: 1 }),
    fails: notFinite('rewards[1] but received NaN'),
  },
  {
    name: 'the reference infinite',
    run: () => rewardsWithKl({ rewards: [0, 0], logps: f(0, 0), refLogps: f(0, -Infinity), ...one }, { beta: 1 }),
    fails: notFinite('refLogps[1] (sequence 1, token 0) but received -Infinity'),
  },
  {
    name: 'the policy NaN',
    run: () => rewardsWithKl({ rewards: [0, 0], logps: f(0, nan), refLogps: f(0, nan), ...one }, { beta: 1 }),
    fails: notFinite('logps[1] (sequence 1, token 0) but received NaN'),
  },
];

const named = (op: string, edges: Edge[]) => edges.map((e) => ({ ...e, name: `${op}: ${e.name}` }));
export const EDGES: Edge[] = [
  ...named('gae', GAE),
  ...named('valueLoss', VALUE),
  ...named('preferenceLoss', PREFERENCE),
  ...named('passAtKAdvantages', PASS_AT_K),
  ...named('processAdvantages', PROCESS),
  ...named('multiRewardAdvantages', MULTI),
  ...named('rewardsWithKl', KL),
];
