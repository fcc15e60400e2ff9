// Sampling by the CUDA kernels against a slow and obvious sampler in float64: sort, cumulate, draw.
import { beforeEach, describe, expect, test } from '@jest/globals';
import { BACKENDS, onEach, type Backend } from '../backends/table.js';
import { fromBits, toBits, type Dtype } from '../support/half.js';
import { Random } from '../support/random.js';

interface Options {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
}
interface Sampled {
  chosen: Int32Array;
  logp: Float32Array;
  status: Int32Array;
}
const plain: Options = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
const DTYPES: Dtype[] = ['float32', 'bfloat16', 'float16'];

// ---- the random number: Philox4x32-10 on (token, completion, prompt, step) under the seed, 53 bits
function philox(k0: bigint, k1: bigint, c: bigint[]): bigint[] {
  const M = 0xffffffffn;
  for (let round = 0; round < 10; ++round) {
    const [p0, p1] = [0xd2511f53n * c[0]!, 0xcd9e8d57n * c[2]!];
    c = [(p1 >> 32n) ^ c[1]! ^ k0, p1 & M, (p0 >> 32n) ^ c[3]! ^ k1, p0 & M];
    [k0, k1] = [(k0 + 0x9e3779b9n) & M, (k1 + 0xbb67ae85n) & M];
  }
  return c;
}
function uniformOf(seed: number, step: number, [prompt, completion, token]: number[]): number {
  const key = BigInt(seed);
  const [high, low] = philox(key & 0xffffffffn, key >> 32n, [token!, completion!, prompt!, step].map(BigInt));
  return Number(((high! << 32n) | low!) >> 11n) * 2 ** -53;
}

// ---- the oracle
type Entry = { id: number; z: number; w: number };
const sumOf = (list: Entry[]) => list.reduce((s, e) => s + e.w, 0);

/** `nudge` moves top-p, min-p and the uniform a little: what boundaries within rounding may become. */
function drawOracle(z: number[], o: Options, uniform: number, nudge = { p: 0, m: 0, u: 0 }): number {
  const top = z.reduce((a, b) => Math.max(a, b), -Infinity);
  if (o.temperature === 0) return z.indexOf(top);
  const T = Math.fround(o.temperature);
  const truncated = o.topK > 0 || o.topP < 1 || o.minP > 0;
  let list = z.map((v, id): Entry => ({ id, z: v, w: Math.exp((v - top) / T) })).filter((e) => e.w > 0);
  if (truncated) list.sort((a, b) => b.z - a.z || a.id - b.id);
  if (o.topK > 0 && o.topK < list.length) list = list.filter((e) => e.z >= list[o.topK - 1]!.z);
  if (o.topP < 1) {
    const limit = (Math.fround(o.topP) + nudge.p) * sumOf(list);
    let above = 0;
    const kept: Entry[] = [];
    for (const e of list) {
      if (kept.length && above >= limit) break;
      kept.push(e);
      above += e.w;
    }
    list = kept;
  }
  if (o.minP > 0) list = list.filter((e) => e.w >= Math.fround(o.minP) * (1 + nudge.m));
  const target = (uniform + nudge.u) * sumOf(list);
  let sum = 0;
  for (const e of list) if ((sum += e.w) > target) return e.id;
  return list.at(-1)!.id;
}

const penalised = (z: number[], seen: Uint8Array | undefined, penalty: number) =>
  z.map((v, i) => (seen?.[i] ? Math.fround(v > 0 ? v / Math.fround(penalty) : v * Math.fround(penalty)) : v));

function logpOracle(z: number[], id: number, temperature: number): number {
  const T = temperature === 0 ? 1 : Math.fround(temperature);
  const top = z.reduce((a, b) => Math.max(a, b));
  return (z[id]! - top) / T - Math.log(z.reduce((s, v) => s + Math.exp((v - top) / T), 0));
}

// ---- running the kernel
interface Batch {
  dtype: Dtype;
  vocab: number;
  rows: number[][]; // values of the format
  seen?: Uint8Array;
  seed: number;
  step: number;
  coordinates: number[][];
  stride?: number;
  offset?: number; // elements of the first row after a 16-byte boundary
}
let on: Backend; // that the test runs on
function sample(b: Batch, o: Options): Sampled {
  const stride = b.stride ?? b.vocab;
  const length = (b.offset ?? 0) + stride * b.rows.length;
  const memory = b.dtype === 'float32' ? new Float32Array(length).fill(NaN) : new Uint16Array(length).fill(0x7fff); // NaN in the gaps
  b.rows.forEach((row, r) => memory.set(row.map((v) => toBits(b.dtype, v)), (b.offset ?? 0) + r * stride)); // prettier-ignore
  return on.addon().sample({
    logits: memory.subarray(b.offset ?? 0),
    dtype: DTYPES.indexOf(b.dtype),
    rows: b.rows.length,
    vocab: b.vocab,
    rowStride: stride,
    coordinates: Int32Array.from(b.coordinates.flat()),
    ...(b.seen ? { seen: b.seen } : {}),
    seed: b.seed,
    step: b.step,
    ...o,
  }) as Sampled;
}

function makeBatch(random: Random, dtype: Dtype, vocab: number, rows: number, shape: 'normal' | 'ties' | 'holes'): Batch {
  const spread = random.pick([0.5, 2, 5]);
  const value = () => {
    const v = shape === 'ties' ? random.below(6) - 2 : spread * random.normal() + random.pick([0, 0, 3]);
    return shape === 'holes' && random.chance(0.7) ? -Infinity : fromBits(dtype, toBits(dtype, v));
  };
  const list = Array.from({ length: rows }, () => Array.from({ length: vocab }, value));
  for (const row of list) if (!row.some((v) => v > -Infinity)) row[random.below(vocab)] = 1;
  return {
    dtype,
    vocab,
    rows: list,
    seen: Uint8Array.from({ length: vocab * rows }, () => Number(random.chance(0.3))),
    seed: random.below(2 ** 32) * 2 ** 20 + random.below(2 ** 20),
    step: random.below(1000),
    coordinates: list.map(() => [random.below(100), random.below(16), random.below(500)]),
    stride: vocab + random.below(4),
    offset: random.below(8),
  };
}

const someOptions = (random: Random, vocab: number): Options => ({
  temperature: random.pick([0, 0.3, 0.7, 1, 1, 1.7]),
  topK: random.chance(0.5) ? 0 : random.pick([1, 2, 5, 50, vocab - 1, vocab, vocab + 7].filter((k) => k > 0)),
  topP: random.pick([1, 1, 0.95, 0.5, 0.1, 0]),
  minP: random.pick([0, 0, 0.05, 0.5, 1]),
  repetitionPenalty: random.pick([1, 1, 1.3, 0.8]),
});

const STEPS = [0, 1e-5, -1e-5];
const NUDGES = STEPS.flatMap((p) => STEPS.flatMap((m) => STEPS.map((u) => ({ p, m, u }))));

/** Compares a batch with the oracle; returns how many rows were decided by rounding. */
function compare(b: Batch, o: Options): number {
  const got = sample(b, o);
  let rounded = 0;
  b.rows.forEach((row, r) => {
    const seen = b.seen?.subarray(r * b.vocab, (r + 1) * b.vocab);
    const z = penalised(row, seen, o.repetitionPenalty);
    const uniform = uniformOf(b.seed, b.step, b.coordinates[r]!);
    const id = got.chosen[r]!;
    if (id !== drawOracle(z, o, uniform)) {
      rounded += 1;
      const why = { r, options: o, uniform, vocab: b.vocab, dtype: b.dtype };
      const near = NUDGES.map((n) => drawOracle(z, o, uniform, n));
      if (!near.includes(id)) throw new Error(`${id} instead of ${near[0]}: ${JSON.stringify(why)}`);
    }
    const want = logpOracle(row, id, o.temperature);
    expect(got.status[r]).toBe(0);
    expect(Math.abs(got.logp[r]! - want)).toBeLessThanOrEqual(2e-6 * (1 + Math.abs(want)));
  });
  return rounded;
}

const ties = (values: number[], rows: number, seed = 5): Batch => ({
  dtype: 'float32',
  vocab: values.length,
  rows: Array.from({ length: rows }, () => values),
  seed,
  step: 0,
  coordinates: Array.from({ length: rows }, (_, r) => [r, 0, 0]),
});

onEach('sampling', BACKENDS, (backend) => {
  beforeEach(() => {
    on = backend;
    on.configure({ seed: 1 });
  });

  describe.each(DTYPES)('%s', (dtype) => {
    test.each([
      [1, 40, 2],
      [2, 60, 3],
      [17, 60, 4],
      [1000, 24, 3],
      [32000, 3, 1],
    ])('vocabulary %d: the token of the oracle, for mixed options', (vocab, rounds, rows) => {
      const random = new Random(vocab + dtype.length);
      let rounded = 0;
      for (let round = 0; round < rounds; ++round) {
        on.configure({ seed: round });
        const batch = makeBatch(random, dtype, vocab, rows, random.pick(['normal', 'normal', 'ties', 'holes'] as const));
        rounded += compare(batch, someOptions(random, vocab));
      }
      expect(rounded).toBeLessThanOrEqual(0.05 * rounds * rows);
    });
  });

  describe('one option at a time, 1000 entries', () => {
    const alone: [string, Partial<Options>][] = [
      ['top-k 1', { topK: 1 }],
      ['top-k 40', { topK: 40 }],
      ['top-k beyond the block', { topK: 500 }],
      ['top-p 0.9', { topP: 0.9 }],
      ['top-p after top-k', { topP: 0.8, topK: 100 }],
      ['min-p 0.1', { minP: 0.1 }],
      ['min-p after top-p', { minP: 0.2, topP: 0.9 }],
      ['penalty', { repetitionPenalty: 1.5 }],
      ['penalty and all three', { repetitionPenalty: 1.2, topK: 200, topP: 0.95, minP: 0.01 }],
      ['a high temperature', { temperature: 5 }],
      ['a low temperature', { temperature: 0.02 }],
      ['greedy after a penalty', { temperature: 0, repetitionPenalty: 1.7, topK: 5 }],
    ];
    test.each(alone)('%s', (_, options) => {
      const random = new Random(99);
      for (const dtype of DTYPES) compare(makeBatch(random, dtype, 1000, 8, 'normal'), { ...plain, ...options });
      compare(makeBatch(random, 'bfloat16', 1000, 8, 'ties'), { ...plain, ...options });
    });
  });

  test('ties with the k-th are kept; at the cut of top-p the lowest ids are', () => {
    const values = [0, 2, 1, 2, 1, 1, -3];
    const batch: Batch = { ...ties(values, 100), dtype: 'bfloat16' };
    const of = (o: Partial<Options>) => [...new Set(sample(batch, { ...plain, ...o }).chosen)].sort();
    expect(of({ topK: 3 })).toEqual([1, 2, 3, 4, 5]);
    expect(of({ topK: 2 })).toEqual([1, 3]);
    const p = (2 * Math.exp(2) + 1.5 * Math.exp(1)) / values.reduce((s, v) => s + Math.exp(v), 0);
    expect(of({ topP: p })).toEqual([1, 2, 3, 4]); // the second of the three ones starts below p
    expect(of({ topP: 0.01 })).toEqual([1]);
    expect(of({ minP: 0.9 })).toEqual([1, 3]);
    expect(of({ temperature: 0 })).toEqual([1]); // the first of equals
    expect(of({ temperature: 0, topK: 3 })).toEqual([1]);
  });

  test('0 and -0 are a tie', () => {
    expect(sample(ties([-1, -0, 0], 1), { ...plain, temperature: 0 }).chosen[0]).toBe(1);
    expect([...new Set(sample(ties([-1, 0, -0], 100), { ...plain, topK: 1 }).chosen)].sort()).toEqual([1, 2]);
  });

  test.each(DTYPES)('%s: NaN, +inf and no finite logit are refused by row, the others are not', (dtype) => {
    for (const vocab of [1, 17, 1000]) {
      const good = Array.from({ length: vocab }, (_, i) => i % 3);
      const batch: Batch = {
        dtype,
        vocab,
        rows: [good, good.with(vocab - 1, NaN), good.with(0, Infinity), good.map(() => -Infinity), good.with(vocab >> 1, -NaN), good],
        seed: 3,
        step: 1,
        coordinates: Array.from({ length: 6 }, (_, r) => [r, 1, 2]),
      };
      for (const options of [plain, { ...plain, temperature: 0 }, { ...plain, topP: 0.5, topK: 3 }]) {
        const { chosen, logp, status } = sample(batch, options);
        expect([...status]).toEqual([0, 1, 1, 1, 1, 0]);
        expect([...chosen].map((c) => c === -1)).toEqual([false, true, true, true, true, false]);
        expect([...logp].map(Number.isNaN)).toEqual([false, true, true, true, true, false]);
      }
    }
  });

  test('extremes: huge logits, a token that is certain, one that is nearly so', () => {
    const zero = sample(ties([-3e38, 3e38, 1e30], 3), plain);
    expect([...zero.chosen, ...zero.logp.map(Math.abs)]).toEqual([1, 1, 1, 0, 0, 0]);
    const near = sample(ties([0, 20, -20], 1), { ...plain, temperature: 0 });
    expect(near.logp[0]! / -Math.log1p(Math.exp(-20) + Math.exp(-40))).toBeCloseTo(1, 4);
    const far = sample(ties([50, -50], 1), { ...plain, temperature: 0, repetitionPenalty: 1 });
    expect(far.logp[0]).toBeGreaterThan(-1e-30);
  });

  test('no rows', () => {
    expect(sample({ ...ties([1, 2], 0), rows: [], coordinates: [] }, plain).chosen).toHaveLength(0);
  });

  test.each<[string, Partial<Options>, number]>([
    ['everything', {}, 7],
    ['top-p 0.8', { topP: 0.8 }, 4],
    ['top-k 3 at temperature 1.5', { topK: 3, temperature: 1.5 }, 3],
  ])('frequencies over 2000 draws are the probabilities: %s', (_, options, kept) => {
    const z = [0.25, -1, 1.25, 0.125, -0.5, 1, -2];
    const o = { ...plain, ...options };
    const { chosen } = sample({ ...ties(z, 2000, 12345), dtype: 'bfloat16' }, o);
    const list = z.map((v, id) => ({ id, w: Math.exp(v / o.temperature) })).sort((a, b) => b.w - a.w);
    const best = list.slice(0, kept);
    const total = best.reduce((s, e) => s + e.w, 0);
    const chi = best.reduce((s, e) => {
      const want = (2000 * e.w) / total;
      return s + (chosen.reduce((n, c) => n + Number(c === e.id), 0) - want) ** 2 / want;
    }, 0);
    expect(chosen.every((c) => best.some((e) => e.id === c))).toBe(true);
    expect(chi).toBeLessThan(kept === 7 ? 22.5 : 16.3); // 0.1 % of the chi-square distributions with 6 and 3 degrees of freedom
  });

  test('the same bits again under every schedule, and whatever the other rows are', () => {
    const random = new Random(4);
    const batch = makeBatch(random, 'bfloat16', 1000, 6, 'normal');
    const options = { ...plain, topP: 0.9, topK: 300, repetitionPenalty: 1.1, temperature: 0.9 };
    const first = sample(batch, options);
    for (let again = 0; again < 4; ++again) expect(sample(batch, options)).toEqual(first); // another schedule at every launch
    const one = (r: number): Batch => ({ ...batch, rows: [batch.rows[r]!], coordinates: [batch.coordinates[r]!], seen: batch.seen!.slice(r * 1000, (r + 1) * 1000) }); // prettier-ignore
    batch.rows.forEach((_, r) => {
      const { chosen, logp } = sample(one(r), options);
      expect([chosen[0], logp[0]]).toEqual([first.chosen[r], first.logp[r]]);
    });
  });
});
