import { describe, expect, test } from '@jest/globals';
import type { ReportStep } from '../../lib/report/types.js';
import { Watch, findings } from '../../lib/report/warnings.js';
import { madeUpSteps } from './made-up.js';

const run = (change: (step: ReportStep, i: number) => Partial<ReportStep>, count = 100) =>
  madeUpSteps(count).map((s, i): ReportStep => ({ ...s, ...change(s, i) }));
/** What is said while a run trains, with the step at which it is. */
const live = (steps: ReportStep[]) => {
  const watch = new Watch();
  return steps.flatMap((s) => watch.add(s).map((text) => `${s.step}: ${text}`));
};

const sick: [string, (step: ReportStep, i: number) => Partial<ReportStep>, RegExp][] = [
  ['equal rewards', () => ({ fracRewardZeroStd: 1, rewardStd: 0 }), /All groups have equal rewards: there was nothing to learn/],
  ['clipped', () => ({ clipRatio: { low: 0.2, high: 0.2, region: 0.4 } }), /The clip stops the ratio of 40 % of the tokens/],
  ['entropy', (_, i) => ({ entropy: i < 20 ? 1 : 0.001 }), /The entropy has collapsed/],
  ['spikes', (_, i) => ({ gradNorm: i === 60 ? 50 : 1 }), /gradient norm has spikes: 1 of \d+ steps .*\(step 61: 50, usual 1\)/],
  ['truncated', () => ({ truncated: 0.5 }), /50 % of the completions were cut at the length limit/],
  ['stuck', (_, i) => ({ reward: 0.3 + 0.01 * (i % 2), rewardStd: 0.4 }), /The reward is stuck: between 0\.3\d* and 0\.3\d* for \d+ steps/],
  ['fell', (_, i) => ({ reward: 1 - i / 100 }), /The reward fell from/],
  ['not a number', (_, i) => (i === 50 ? { gradNorm: null } : {}), /not a number/],
  [
    'servers',
    () => ({ rollout: { requests: 40, retries: 10, stale: 0, queueSeconds: 0, serversOut: 1 } }),
    /25 % of the requests to the servers were second attempts/,
  ],
  [
    'other weights',
    () => ({ samplerKl: 0.4, staleness: { mean: 0, max: 0 } }),
    /0\.4\d* nats per token away from the policy.*Did it load them/,
  ],
  ['far away', () => ({ kl: 3 }), /moved far from the reference \(3 nats/],
];

describe.each(sick)('%s', (_, change, message) => {
  test('is told in the report', () => expect(findings(run(change)).join('\n')).toMatch(message));
  test('is told once while it trains, and not in the first steps', () => {
    const said = live(run(change)).filter((line) => message.test(line));
    expect(said).toHaveLength(1);
    expect(Number(said[0]!.split(':')[0])).toBeGreaterThanOrEqual(10);
  });
});

test('a healthy run is told nothing, however long', () => {
  expect(live(madeUpSteps(60))).toEqual([]);
  expect(findings(madeUpSteps(400))).toEqual([]);
  expect(live(madeUpSteps(3000)).length).toBeLessThanOrEqual(1); // its last groups may have little left to learn
});

test('a reward that moves, however slowly, is not stuck; one that cannot move any more is not either', () => {
  expect(findings(run((_, i) => ({ reward: 0.3 + i / 500, rewardStd: 0.4 })))).toEqual([]);
  expect(findings(run(() => ({ reward: 1, rewardStd: 0.001, fracRewardZeroStd: 0.95 }))).join()).not.toMatch(/stuck/);
});

test('looking at a long run stays cheap', () => {
  const steps = madeUpSteps(10_000);
  const begin = performance.now();
  live(steps);
  expect(performance.now() - begin).toBeLessThan(15_000);
});
