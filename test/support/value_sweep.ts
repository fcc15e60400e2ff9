// Random cases of the ops in value_oracle.ts, on whatever backend the ops run. What is masked holds NaN; arrays begin at odd offsets.
import {
  type SequenceLayout,
  gae,
  multiRewardAdvantages,
  passAtKAdvantages,
  preferenceLoss,
  processAdvantages,
  rewardsWithKl,
  valueLoss,
} from '../../lib/index.js';
import { advantagesOracle } from './oracle.js';
import { Random } from './random.js';
import {
  gaeOracle,
  gdpoOracle,
  passAtKOracle,
  preferenceOracle,
  processOracle,
  rewardsWithKlOracle,
  valueLossOracle,
  weightedSums,
} from './value_oracle.js';

const { abs, fround, max } = Math;

/** Results are rounded to float32; `size`: of the terms that may cancel. */
function near(what: string, got: ArrayLike<number>, want: ArrayLike<number>, size = 1): void {
  if (got.length !== want.length) throw new Error(`${what}: ${got.length} numbers, want ${want.length}`);
  for (let i = 0; i < want.length; ++i)
    if (!(abs(got[i]! - want[i]!) <= 2e-7 * abs(want[i]!) + 1e-9 * size)) throw new Error(`${what}[${i}]: got ${got[i]}, want ${want[i]}`);
}
function same(what: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  for (let i = 0; i < max(got.length, want.length); ++i)
    if (got[i] !== want[i]) throw new Error(`${what}[${i}]: got ${got[i]}, want ${want[i]}`);
}

const ends = (lengths: number[]) => [0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0))];
const floats = (n: number, make: (i: number) => number) => Array.from({ length: n }, (_, i) => fround(make(i)));
/** A typed array that does not begin at its buffer's first element. */
function view(r: Random, values: number[]): Float32Array {
  const array = new Float32Array(values.length + 3).subarray(r.below(4));
  array.set(values);
  return array.subarray(0, values.length);
}

interface Shape {
  offsets: number[];
  selected: boolean[];
  layout: SequenceLayout;
  mask?: Uint8Array;
  /** Typed arrays of an op: NaN behind the mask. */
  given: (r: Random, values: number[]) => Float32Array;
}

function shape(r: Random, masks = true): Shape {
  const B = r.pick([0, 1, 1, 2, 3, 5, 9, 20]);
  const longest = r.pick([1, 5, 33, 64, 70, 100]);
  const rectangular = r.chance(0.4);
  const T = 1 + r.below(longest);
  const offsets = ends(Array.from({ length: B }, () => (rectangular ? T : r.below(longest + 1))));
  const N = offsets[B]!;
  const share = r.pick([0, 0.1, 0.7, 0.7, 1]);
  const mask = masks && r.chance(0.7) ? Uint8Array.from({ length: N }, () => (r.chance(share) ? r.pick([1, 255]) : 0)) : undefined;
  const selected = Array.from({ length: N }, (_, t) => !mask || mask[t] !== 0);
  const layout = rectangular ? { completionLength: T } : { offsets: Int32Array.from(offsets) };
  const given = (from: Random, values: number[]) =>
    view(
      from,
      values.map((v, t) => (selected[t] ? v : NaN)),
    );
  return { offsets, selected, layout, mask, given };
}

function randomGae(r: Random): void {
  const s = shape(r);
  const N = s.selected.length;
  const spread = r.pick([0, 1, 10]);
  const [level, outcomes] = [r.pick([0, 0, 50]), r.chance(0.5)];
  const rewards = floats(N, () => (outcomes && r.chance(0.8) ? 0 : spread * r.normal()));
  const values = floats(N, () => level + spread * r.normal());
  const lastValues = r.chance(0.4) ? floats(s.offsets.length - 1, () => level + r.normal()) : undefined;
  const o = { gamma: r.pick([1, 1, 0.99, 0.5, 0]), lambda: r.pick([1, 0.95, 0.5, 0]), whiten: r.chance(0.5) };
  const batch = { ...s.layout, rewards: s.given(r, rewards), values: s.given(r, values), mask: s.mask };
  const got = gae({ ...batch, lastValues: lastValues && view(r, lastValues) }, o);
  const want = gaeOracle({ ...s, rewards, values, lastValues }, o);
  near('returns', got.returns, want.returns, 10);
  near('advantages', got.advantages, want.advantages, 10);
}

function randomValueLoss(r: Random): void {
  const s = shape(r);
  const N = s.selected.length;
  const values = floats(N, () => 3 * r.normal());
  const oldValues = values.map((v) => fround(v + r.pick([0, 0.1, 1]) * r.normal()));
  const returns = values.map((v) => fround(v + r.pick([0, 1, 5]) * r.normal()));
  const clip = r.chance(0.7) ? r.pick([0, 0.05, 0.2, 1]) : undefined;
  const normalizer = r.chance(0.3) ? r.pick([0.5, 3, 1000]) : undefined;
  const old = clip === undefined ? undefined : s.given(r, oldValues);
  const batch = { ...s.layout, values: s.given(r, values), returns: s.given(r, returns), oldValues: old, mask: s.mask };
  const got = valueLoss(batch, { cliprangeValue: clip, normalizer });
  const want = valueLossOracle({ ...s, values, oldValues, returns }, { clip, normalizer });
  near('loss', [got.loss], [want.loss], 1);
  near('gradValues', got.gradValues, want.gradValues, 0);
  same('metrics', [got.metrics.clipRatio, got.metrics.tokens], [want.clipRatio, want.tokens]);
}

function randomPreferenceLoss(r: Random): void {
  const B = r.pick([0, 1, 2, 7, 40, 300]);
  const scale = r.pick([0.1, 1, 10, 1e4]);
  const chosen = floats(B, () => scale * r.normal());
  const rejected = chosen.map((c) => (r.chance(0.1) ? c : fround(scale * r.normal())));
  const margins = r.chance(0.5) ? floats(B, () => abs(r.normal())) : undefined;
  const coefficient = r.pick([0, 0, 0.01, 1]);
  const normalizer = r.chance(0.3) ? r.pick([0.5, 100]) : undefined;
  const batch = { chosenRewards: view(r, chosen), rejectedRewards: view(r, rejected), margins: margins && view(r, margins) };
  const got = preferenceLoss(batch, { centerRewardsCoefficient: coefficient, normalizer });
  const want = preferenceOracle({ chosen, rejected, margins }, { coefficient, normalizer });
  near('loss', [got.loss], [want.loss], 0);
  near('gradChosen', got.gradChosen, want.gradChosen, 1e-3);
  near('gradRejected', got.gradRejected, want.gradRejected, 1e-3);
  near('metrics', [got.metrics.accuracy, got.metrics.margin], [want.accuracy, want.margin], scale);
}

const groupsOf = (r: Random, sizes: number[]) =>
  sizes.length > 0 && sizes.every((n) => n === sizes[0] && n > 0) && r.chance(0.7)
    ? { numGenerations: sizes[0]! }
    : { groupOffsets: Int32Array.from(ends(sizes)) };

function randomPassAtK(r: Random): void {
  const k = 1 + r.below(4);
  const equal = k + r.below(5);
  const sizes = Array.from({ length: r.pick([0, 1, 2, 5, 12]) }, () => (r.chance(0.5) ? equal : r.chance(0.1) ? 0 : k + r.below(6)));
  const share = r.pick([0, 0.2, 0.5, 1]);
  const groups = sizes.map((n) => Array.from({ length: n }, () => Number(r.chance(share))));
  const got = passAtKAdvantages(Float32Array.from(groups.flat()), { k, ...groupsOf(r, sizes) });
  const want = groups.map((g) => passAtKOracle(g, k));
  near(
    'passAtK',
    got.passAtK,
    want.map((w) => w.pass),
  );
  near(
    'advantages',
    got.advantages,
    want.flatMap((w) => w.advantages),
  );
}

/** Sizes of groups of B in total; one may be empty. */
function split(r: Random, B: number): number[] {
  const divisors = [1, 2, 3, 4, 5].filter((d) => B > 0 && B % d === 0);
  if (divisors.length && r.chance(0.5)) {
    const size = r.pick(divisors);
    return new Array<number>(B / size).fill(size);
  }
  const sizes = [];
  for (let left = B; left > 0; left -= sizes[sizes.length - 1]!) sizes.push(r.chance(0.1) ? 0 : 1 + r.below(left));
  return sizes;
}

function randomProcess(r: Random): void {
  const s = shape(r, false);
  const B = s.offsets.length - 1;
  const density = r.pick([0, 0.05, 0.3, 1]);
  const ended = Array.from({ length: B }, (_, i) =>
    Array.from({ length: s.offsets[i + 1]! - s.offsets[i]! }, (_, t) => s.offsets[i]! + t).filter(() => r.chance(density)),
  );
  const stepEnds = ended.flat();
  const levels = r.pick([1, 2, 1000]);
  const shift = r.pick([0, 0.1, 1000]);
  const stepRewards = stepEnds.map(() => shift + r.below(levels) / 7);
  const sizes = split(r, B);
  const o = { scale: r.pick(['group', 'none'] as const), ddof: r.pick([0, 1] as const), eps: r.pick([1e-4, 1e-2]) };
  const stepOffsets = ends(ended.map((e) => e.length));
  const steps = { stepRewards, stepEnds: Int32Array.from(stepEnds), stepOffsets: Int32Array.from(stepOffsets) };
  const got = processAdvantages({ ...s.layout, ...steps, ...groupsOf(r, sizes) }, { scaleRewards: o.scale, ddof: o.ddof, eps: o.eps });
  const want = processOracle({ offsets: s.offsets, stepRewards, stepEnds, stepOffsets, groupOffsets: ends(sizes) }, o);
  near('advantages', got.advantages, want.advantages, 100);
  near(
    'mean',
    got.mean,
    want.groups.map((g) => g.mean),
  );
  near(
    'std',
    got.std,
    want.groups.map((g) => g.std),
  );
  same(
    'zeroStd',
    got.zeroStd,
    want.groups.map((g) => g.zeroStd),
  );
}

/** Rewards and weights are multiples of 1/4: sums are exact, and ranks the same wherever products and sums are joined. */
function randomMultiReward(r: Random): void {
  const sizes = split(r, r.pick([0, 1, 4, 6, 12, 40, 90]));
  const groupOffsets = ends(sizes);
  const B = groupOffsets[sizes.length]!;
  const K = 1 + r.below(4);
  const [levels, silent, exclude] = [r.pick([1, 2, 3, 1000]), r.pick([0, 0.2, 0.9]), r.chance(0.3)];
  const rewards = Array.from({ length: K }, () =>
    Array.from({ length: B }, () => (r.chance(silent) ? (exclude ? r.pick([NaN, Infinity]) : NaN) : r.below(levels) / 4)),
  );
  const weights = r.chance(0.6) ? Array.from({ length: K }, () => r.pick([1, 0.5, -0.25, 0, 3])) : undefined;
  const shared = { ddof: r.pick([0, 1] as const), eps: r.pick([1e-4, 1e-2]) };
  const gdpo = r.chance(0.5);
  const o = {
    scaleRewards: gdpo ? ('group' as const) : r.pick(['group', 'batch', 'none'] as const),
    baseline: gdpo ? ('group_mean' as const) : r.pick(['group_mean', 'leave_one_out', 'batch_mean', 'none'] as const),
    transform: gdpo ? ('none' as const) : r.pick(['none', 'rank'] as const),
    ...shared,
  };
  const got = multiRewardAdvantages(
    rewards.map((row) => (r.chance(0.5) ? row : Float64Array.from(row))),
    {
      ...groupsOf(r, sizes),
      ...o,
      rewardWeights: weights,
      nonFinite: exclude ? 'exclude' : 'error',
      multiObjectiveAggregation: gdpo ? 'normalize_then_sum' : 'sum_then_normalize',
    },
  );
  const w = weights ?? rewards.map(() => 1);
  const sums = weightedSums(rewards, w);
  const want = gdpo ? gdpoOracle(rewards, w, groupOffsets, shared) : advantagesOracle(sums, groupOffsets, o);
  near('advantages', got.advantages, want, 10);
  if (gdpo)
    sizes.forEach((_, g) => {
      const [first, last] = [groupOffsets[g]!, groupOffsets[g + 1]!];
      if (!rewards.every((row) => new Set(row.slice(first, last).filter(Number.isFinite)).size < 2)) return;
      same('zeroStd of a group of equal rewards', [got.zeroStd[g]!], [1]);
      same('its advantages', got.advantages.subarray(first, last), new Float32Array(last - first));
    });
  if (o.transform === 'rank') return;
  const means = sizes.map((_, g) => {
    const there = sums.slice(groupOffsets[g], groupOffsets[g + 1]).filter(Number.isFinite);
    return there.length ? there.reduce((a, b) => a + b) / there.length : 0;
  });
  near('mean', got.mean, means);
}

function randomRewardsWithKl(r: Random): void {
  const s = shape(r);
  const logps = floats(s.selected.length, () => -abs(3 * r.normal()));
  const refLogps = logps.map((x) => fround(x + r.pick([0, 0.1, 2]) * r.normal()));
  const rewards = Array.from({ length: s.offsets.length - 1 }, () => r.normal());
  const o = { beta: r.pick([0, 0.01, 1]), estimator: r.pick(['k1', 'k2', 'k3'] as const) };
  const read = (values: number[]) => (o.beta === 0 ? new Float32Array(values.length).fill(NaN) : s.given(r, values));
  const batch = { ...s.layout, rewards, logps: read(logps), refLogps: read(refLogps), mask: s.mask };
  const got = rewardsWithKl(batch, { beta: o.beta, ...(o.estimator === 'k1' ? {} : { klEstimator: o.estimator }) });
  rewardsWithKlOracle({ ...s, rewards, logps, refLogps }, o).forEach((want, i) => {
    if (!(abs(got[i]! - want) <= 1e-12 * max(1, abs(want)))) throw new Error(`rewards[${i}]: got ${got[i]}, want ${want}`);
  });
}

/** By op: one random case, which throws where op and oracle differ. */
const OPS: Record<string, (r: Random) => void> = {
  gae: randomGae,
  valueLoss: randomValueLoss,
  preferenceLoss: randomPreferenceLoss,
  passAtKAdvantages: randomPassAtK,
  processAdvantages: randomProcess,
  multiRewardAdvantages: randomMultiReward,
  rewardsWithKl: randomRewardsWithKl,
};

export const VALUE_OPS = Object.keys(OPS);

/** The seeds 1 ... count of an op; a failure names its seed. `use` is called before each. */
export function valueSweep(op: string, count: number, use: (seed: number) => void = () => {}): void {
  for (let seed = 1; seed <= count; ++seed) {
    use(seed);
    try {
      OPS[op]!(new Random(seed));
    } catch (error) {
      throw new Error(`${op}, seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}
