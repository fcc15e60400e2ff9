// Gradient norm and AdamW of the CUDA kernels: against float64, and against the CPU's kernels, bit for bit where both round alike.
import { beforeEach, describe, expect, test } from '@jest/globals';
import { engine } from '../../lib/native.js';
import { BACKENDS, onEach, type Backend } from '../backends/table.js';
import { learningCurve, oracleStep, type Adam } from '../support/adamw.js';
import { toBf16 } from '../support/half.js';

const CHUNK = 1 << 15; // kOptimizerChunk
const rates = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, gradientScale: 1 };

interface Tensor {
  size: number;
  parameter: Float32Array | Uint16Array;
  master?: Float32Array;
  gradient?: Float32Array;
  moment1: Float32Array;
  moment2: Float32Array;
  decay: boolean;
}
interface Found {
  norm: number;
  scale: number;
  skip: number;
  chunks: number;
}
let on: Backend; // that the test runs on
const step = (tensors: Tensor[], n: number, more: object = {}) =>
  on.addon().adamw({ tensors, step: n, maxNorm: 0, useNorm: true, ...rates, ...more }) as Found;

/** A copy that lies `elements` after a 16-byte boundary. */
function at<T extends Float32Array | Uint16Array>(values: T, elements: number): T {
  const Type = values.constructor as new (n: number) => T;
  const place = new Type(values.length + 8).subarray(elements) as T;
  place.set(values);
  return place.subarray(0, values.length) as T;
}

type Offsets = readonly [value: number, gradient: number, moment1: number, moment2: number, bf16: number];
const ALIGNED: Offsets = [0, 0, 0, 0, 0];
const TOGETHER: Offsets = [3, 3, 3, 3, 3]; // one element before the next boundary, the bf16 weights at an odd address as well
const APART: Offsets = [1, 2, 3, 0, 5];

function tensor(size: number, seed: number, options: { bf16?: boolean; offsets?: Offsets; decay?: boolean } = {}): Tensor {
  const { start } = learningCurve(size, seed);
  const [value, , moment1, moment2, bf16] = options.offsets ?? ALIGNED;
  const own = at(start, value);
  return {
    size,
    ...(options.bf16 ? { parameter: at(Uint16Array.from(start, toBf16), bf16), master: own } : { parameter: own }),
    moment1: at(new Float32Array(size), moment1),
    moment2: at(new Float32Array(size), moment2),
    decay: options.decay ?? true,
  };
}
const valuesOf = (t: Tensor) => t.master ?? (t.parameter as Float32Array);
const gradientOf = (t: Tensor, seed: number, n: number, offsets: Offsets = ALIGNED) =>
  at(learningCurve(t.size, seed).gradientAt(n), offsets[1]);
const normOf = (tensors: Tensor[]) => Math.sqrt(tensors.reduce((sum, t) => sum + (t.gradient?.reduce((s, g) => s + g * g, 0) ?? 0), 0));
const bits = (a: Float32Array | Uint16Array) => Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('hex');
const state = (t: Tensor) => [t.parameter, t.moment1, t.moment2, ...(t.master ? [t.master] : [])].map(bits);

const sizes = [0, 1, 3, 4097, CHUNK - 1, CHUNK, CHUNK + 1];
const layouts: [string, Offsets][] = [
  ['aligned', ALIGNED],
  ['unaligned together', TOGETHER],
  ['unaligned apart', APART],
];
/** The same bits; where the compiler joins products and sums, a few roundings of the largest element apart. */
function expectAlike(ours: Tensor, theirs: Tensor): void {
  if (on.roundsLikeCpu) return expect(state(ours)).toEqual(state(theirs));
  const pairs = [valuesOf, (t: Tensor) => t.moment1, (t: Tensor) => t.moment2].map((of) => [of(ours), of(theirs)] as const);
  for (const [got, want] of pairs) {
    const largest = want.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    expect(got.reduce((most, v, i) => Math.max(most, Math.abs(v - want[i]!)), 0)).toBeLessThanOrEqual(1e-6 * largest);
  }
  if (ours.master) expect(Array.from(ours.parameter)).toEqual(Array.from(ours.master, toBf16));
}

onEach('AdamW', BACKENDS, (backend) => {
  beforeEach(() => {
    on = backend;
    on.configure({ seed: 1 });
  });

  describe.each(layouts)('%s', (_, offsets) => {
    test.each([1, 2, 3])('tensors of all sizes follow float64, three steps (schedule %d)', (seed) => {
      on.configure({ seed: seed });
      const tensors = sizes.map((size, i) => tensor(size, i, { bf16: i % 2 === 1, offsets, decay: i % 3 !== 0 }));
      const states: Adam[] = tensors.map((t) => ({
        p: Float64Array.from(valuesOf(t)),
        m: new Float64Array(t.size),
        v: new Float64Array(t.size),
      }));
      for (let n = 1; n <= 3; ++n) {
        tensors.forEach((t, i) => (t.gradient = gradientOf(t, i, n, offsets)));
        const maxNorm = n === 2 ? 5 : 1e9;
        const { norm, scale, skip, chunks } = step(tensors, n, { maxNorm });
        expect([skip, chunks]).toEqual([0, sizes.reduce((sum, s) => sum + Math.ceil(s / CHUNK), 0)]);
        expect(Math.abs(norm - normOf(tensors))).toBeLessThanOrEqual(1e-12 * norm);
        expect(scale).toBe(n === 2 ? Math.fround(maxNorm / (norm + 1e-6)) : 1);
        states.forEach((s, i) =>
          oracleStep(s, tensors[i]!.gradient!, { ...rates, weightDecay: tensors[i]!.decay ? rates.weightDecay : 0, step: n, scale }),
        );
      }
      tensors.forEach((t, i) => {
        const got = valuesOf(t);
        const worst = states[i]!.p.reduce((most, p, k) => Math.max(most, Math.abs(p - got[k]!) / Math.max(1e-2, Math.abs(p))), 0);
        expect(worst).toBeLessThan(2e-5);
        if (t.master) expect(Array.from(t.parameter)).toEqual(Array.from(t.master, toBf16));
      });
    });

    test.each([1, 3, 4097, CHUNK + 1])('%d elements: what the CPU kernel computes', (size) => {
      for (const bf16 of [false, true]) {
        const ours = tensor(size, 5, { bf16, offsets });
        const theirs = tensor(size, 5, { bf16 });
        for (let n = 1; n <= 2; ++n) {
          ours.gradient = gradientOf(ours, 5, n, offsets);
          const { norm, scale } = step([ours], n, { maxNorm: 10 });
          const twin = engine().adamwStep({
            ...theirs,
            gradient: Float32Array.from(ours.gradient),
            ...rates,
            step: n,
            gradientScale: scale,
          });
          expect(Math.abs(norm - twin)).toBeLessThanOrEqual(1e-14 * twin);
          expectAlike(ours, theirs);
        }
      }
    });
  });

  test('a tensor without gradient is left alone, wherever it stands, and does not count in the norm', () => {
    for (const without of [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]]) {
      const tensors = [100, 40000, 7].map((size, i) => tensor(size, i, { bf16: i === 1 }));
      tensors.forEach((t, i) => without.includes(i) || (t.gradient = gradientOf(t, i, 1)));
      const before = tensors.map(state);
      const { norm, skip } = step(tensors, 1);
      expect(skip).toBe(0);
      expect(Math.abs(norm - normOf(tensors))).toBeLessThanOrEqual(1e-12 * norm);
      tensors.forEach((t, i) => expect(state(t).join() === before[i]!.join()).toBe(without.includes(i)));
    }
  });

  test('no tensors at all: norm 0, no clipping', () => {
    expect(step([], 1, { maxNorm: 1 })).toEqual({ norm: 0, scale: 1, skip: 0, chunks: 0 });
  });

  test.each([NaN, Infinity, -Infinity])('one gradient of %d: nothing is updated, and the record says so', (bad) => {
    for (const place of [0, CHUNK + 3]) {
      const tensors = [10, CHUNK + 10].map((size, i) => tensor(size, i, { bf16: i === 1 }));
      tensors.forEach((t, i) => (t.gradient = gradientOf(t, i, 1)));
      tensors[1]!.gradient![place] = bad;
      const before = tensors.map(state);
      const { norm, skip } = step(tensors, 1, { maxNorm: 1 });
      expect(Number.isFinite(norm)).toBe(false);
      expect(skip).toBe(1);
      expect(tensors.map(state)).toEqual(before);
    }
  });

  test('gradients whose squares overflow float32 have a finite norm', () => {
    const t = tensor(5, 1);
    t.gradient = new Float32Array(5).fill(3e38);
    const { norm, skip, scale } = step([t], 1, { maxNorm: 1 });
    expect(norm / (3e38 * Math.sqrt(5))).toBeCloseTo(1, 6);
    expect([skip, scale]).toEqual([0, Math.fround(1 / norm)]);
  });

  test('without the norm record the scale of the step counts', () => {
    const [a, b] = [tensor(50, 2), tensor(50, 2)] as const;
    a.gradient = gradientOf(a, 2, 1);
    b.gradient = a.gradient.map((g) => g * 0.25);
    step([a], 1, { useNorm: false, gradientScale: 0.25 });
    step([b], 1, { useNorm: false });
    expect(state(a)).toEqual(state(b));
  });

  test('the same bits under every schedule', () => {
    const run = (seed: number) => {
      on.configure({ seed: seed });
      const tensors = [3, CHUNK + 5, 2 * CHUNK, 17].map((size, i) => tensor(size, i, { bf16: i > 1 }));
      tensors.forEach((t, i) => (t.gradient = gradientOf(t, i, 1)));
      return [step(tensors, 1, { maxNorm: 1 }), tensors.map(state)];
    };
    const first = run(1);
    for (const seed of [2, 3, 4]) expect(run(seed)).toEqual(first);
  });
});
