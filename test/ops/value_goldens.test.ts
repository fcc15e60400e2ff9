// The token-sized ops against numbers of other projects' own running code (scripts/goldens/make_peer_goldens.py).
// A case that `differs` says where the peer means something else: there our number must not be the peer's.
import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gae, multiRewardAdvantages, passAtKAdvantages, preferenceLoss, valueLoss } from '../../lib/index.js';

type Numbers = (number | null)[]; // null: NaN

interface Named {
  name: string;
  op: string;
  differs?: string;
}
interface Goldens<C> {
  inputs: Record<string, Record<string, number[]> & { shape: [number, number] }>;
  cases: C[];
}

const read = <C extends Named>(file: string) =>
  JSON.parse(readFileSync(join(__dirname, `../golden/peers/${file}.json`), 'utf8')) as Goldens<C>;
const only = <C extends Named>(cases: C[], op: string) => cases.filter((c) => c.op === op).map((c) => [c.name, c] as const);
/** How far off the number that is furthest off is, relative to 1 or its size. */
const off = (ours: ArrayLike<number>, theirs: number[]) =>
  Math.max(0, ...theirs.map((v, i) => Math.abs(ours[i]! - v) / Math.max(1, Math.abs(v))));

interface MultiCase extends Named {
  rewards: Numbers; // one row a completion
  completions: number;
  functions: number;
  numGenerations: number;
  config: { aggregation: 'sum_then_normalize' | 'normalize_then_sum'; scaleRewards: 'group' | 'batch' | 'none'; weights: number[] };
  advantages: number[];
}
interface PassAtKCase extends Named {
  rewards: number[];
  groupOffsets: number[];
}
const advantages = read<Named>('advantages').cases;
const floats = (values: Numbers) => Float64Array.from(values, (v) => v ?? NaN);

test.each(only(advantages as MultiCase[], 'multiRewardAdvantages'))('rewards of several functions: %s', (_name, c) => {
  const rewards = Array.from({ length: c.functions }, (_, k) => floats(c.rewards.filter((_r, i) => i % c.functions === k)));
  expect(rewards[0]!.length).toBe(c.completions);
  const { numGenerations, config } = c;
  const ours = multiRewardAdvantages(rewards, {
    numGenerations,
    multiObjectiveAggregation: config.aggregation,
    scaleRewards: config.scaleRewards,
    rewardWeights: config.weights,
  });
  if (c.differs) expect(off(ours.advantages, c.advantages)).toBeGreaterThan(1e-3);
  else expect(off(ours.advantages, c.advantages)).toBeLessThan(1e-5);
});

// verl's grpo_passk is another method (arXiv:2503.19595: the best of a group gets its distance from the second), for rewards of any kind.
test.each(only(advantages as PassAtKCase[], 'passAtKAdvantages'))('Pass@k takes no rewards but 0 and 1: %s', (_name, c) => {
  const groupOffsets = Int32Array.from(c.groupOffsets);
  expect(() => passAtKAdvantages(c.rewards, { k: 2, groupOffsets })).toThrow(/Expected 0 or 1 for rewards\[0\]/);
});

const values = read<Named>('values');
/** The inputs of a case, as the op takes them. */
function tokens(name: string) {
  const given = values.inputs[name]!;
  const array = (field: string) => Float32Array.from(given[field]!);
  return {
    values: array('values'),
    oldValues: array('oldValues'),
    returns: array('returns'),
    rewards: array('rewards'),
    mask: Uint8Array.from(given.mask!),
    completionLength: given.shape[1],
  };
}

interface GaeCase extends Named {
  inputs: string;
  config: { gamma: number; lambda: number };
  advantages: number[];
  returns: number[];
  whitened?: number[];
}
test.each(only(values.cases as GaeCase[], 'gae'))('%s', (_name, c) => {
  const { rewards, values: v, mask, completionLength } = tokens(c.inputs);
  const batch = { rewards, values: v, mask, completionLength };
  const ours = gae(batch, c.config);
  if (c.differs) {
    expect(off(ours.advantages, c.advantages)).toBeGreaterThan(1e-3);
    return;
  }
  expect(off(ours.advantages, c.advantages)).toBeLessThan(1e-6);
  expect(off(ours.returns, c.returns)).toBeLessThan(1e-6);
  if (c.whitened) expect(off(gae(batch, { ...c.config, whiten: true }).advantages, c.whitened)).toBeLessThan(1e-6);
});

interface ValueCase extends Named {
  inputs: string;
  config: { mean: 'tokens' | 'sequences'; clip?: number };
  loss: number;
  gradValues: number[];
  clipRatio?: number;
}
/** The mean over sequences (those with a selected token) of their means over tokens: one call a sequence, told what its part is. */
function bySequence(c: ValueCase) {
  const { completionLength: T, mask, ...arrays } = tokens(c.inputs);
  const rows = Array.from({ length: mask.length / T }, (_, i) => [i * T, i * T + T] as const);
  const selected = rows.map((ends) => mask.subarray(...ends).filter(Boolean).length);
  const sequences = selected.filter(Boolean).length;
  const parts = rows.map((ends, i) => {
    const cut = { values: arrays.values.subarray(...ends), oldValues: arrays.oldValues.subarray(...ends) };
    const batch = { ...cut, returns: arrays.returns.subarray(...ends), mask: mask.subarray(...ends), completionLength: T };
    return valueLoss(batch, { cliprangeValue: c.config.clip, normalizer: Math.max(1, selected[i]!) * sequences });
  });
  return { loss: parts.reduce((sum, p) => sum + p.loss, 0), gradValues: parts.flatMap((p) => Array.from(p.gradValues)) };
}

test.each(only(values.cases as ValueCase[], 'valueLoss'))('%s', (_name, c) => {
  const { rewards: _rewards, ...batch } = tokens(c.inputs);
  const whole = valueLoss(batch, { cliprangeValue: c.config.clip });
  const ours = c.config.mean === 'tokens' ? whole : bySequence(c);
  expect(off([ours.loss], [c.loss])).toBeLessThan(1e-6);
  expect(off(ours.gradValues, c.gradValues)).toBeLessThan(1e-6);
  if (c.clipRatio !== undefined) expect(off([whole.metrics.clipRatio], [c.clipRatio])).toBeLessThan(1e-6);
});

interface PreferenceCase extends Named {
  chosen: number[];
  rejected: number[];
  margin?: number[];
  loss: number;
  gradChosen: number[];
  gradRejected: number[];
}
describe('preferenceLoss', () => {
  test.each(only(values.cases as PreferenceCase[], 'preferenceLoss'))('%s', (_name, c) => {
    const batch = { chosenRewards: Float32Array.from(c.chosen), rejectedRewards: Float32Array.from(c.rejected) };
    const ours = preferenceLoss({ ...batch, margins: c.margin && Float32Array.from(c.margin) });
    expect(off([ours.loss], [c.loss])).toBeLessThan(1e-6);
    expect(off(ours.gradChosen, c.gradChosen)).toBeLessThan(1e-6);
    expect(off(ours.gradRejected, c.gradRejected)).toBeLessThan(1e-6);
  });
});
