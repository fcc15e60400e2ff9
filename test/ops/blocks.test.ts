// Rows are swept in blocks of 2048 columns with a running maximum, which 16-bit rows find as integers, and whose powers their
// gradients take from the sums. Rows made to go wrong there, at every instruction set and in every format, against fp64.
import { afterAll, expect, test } from '@jest/globals';
import { grpoLoss, selectiveLogp, selectiveLogpBackward } from '../../lib/index.js';
import { core } from '../../lib/native.js';
import { fromBits, toBits } from '../support/half.js';
import { Random } from '../support/random.js';

const original = core().simd();
const LEVELS = ['portable', 'avx2', 'avx512', 'neon'].filter((name) => core().useSimd(name));
core().useSimd(original);
afterAll(() => void core().useSimd(original));

const DTYPES = ['float32', 'bfloat16', 'float16'] as const;
type Dtype = (typeof DTYPES)[number];
const BLOCK = 2048;
const EPSILON = { float32: 2 ** -24, bfloat16: 2 ** -8, float16: 2 ** -11 };

/** Gaussian logits, moved by what the case says of a column. */
const CASES: [string, number, (column: number, z: number) => number][] = [
  ['a maximum that grows with each block', 4 * BLOCK + 5, (i, z) => z / 4 + 9 * Math.floor(i / BLOCK)],
  ['a maximum that jumps by more than a float of a power holds', 3 * BLOCK, (i, z) => z + (i < 2 * BLOCK ? -300 : 0)],
  ['the maximum in the first column', 2 * BLOCK + 33, (i, z) => (i === 0 ? 40 : z)],
  ['the maximum in the last column', 2 * BLOCK + 1, (i, z) => (i === 2 * BLOCK ? 40 : z)],
  ['negative numbers only', 2 * BLOCK + 17, (_, z) => -Math.abs(z) - 3],
  ['blocks with and without a positive number', 3 * BLOCK + 1, (i, z) => (i < BLOCK ? -Math.abs(z) - 1 : z)],
  ['-Infinity all over the first block', 2 * BLOCK + 9, (i, z) => (i < BLOCK ? -Infinity : z)],
  ['-Infinity everywhere but at one column', 2 * BLOCK, (i) => (i === BLOCK + 3 ? -5 : -Infinity)],
  ['equal logits', 2 * BLOCK + 31, () => -0.5],
  ['zeros of both signs', BLOCK + 40, (i) => (i % 3 === 0 ? -0 : 0)],
];

/** Encoded, and what was encoded. */
function encode(dtype: Dtype, values: number[]) {
  if (dtype === 'float32') {
    const data = Float32Array.from(values);
    return { data, values: Array.from(data) };
  }
  const data = Uint16Array.from(values, (v) => toBits(dtype, v));
  return { data, values: Array.from(data, (bits) => fromBits(dtype, bits)) };
}
const decode = (dtype: Dtype, data: ArrayLike<number>) => Array.from(data, (v) => (dtype === 'float32' ? v : fromBits(dtype, v)));

function softmax(values: number[]) {
  const max = Math.max(...values);
  const powers = values.map((v) => Math.exp(v - max));
  const sum = powers.reduce((a, b) => a + b, 0);
  return { p: powers.map((v) => v / sum), logps: values.map((v) => v - max - Math.log(sum)) };
}

/** Right to one rounding of the format and the kernels' float32, in which the exponent of a small p has few digits behind the point. */
function expectGradient(dtype: Dtype, got: number[], want: number[]) {
  const least = dtype === 'float16' ? 2 ** -24 : 1e-37;
  const wrong = got.findIndex((v, i) => {
    const size = Math.abs(want[i]!);
    const relative = EPSILON[dtype] * 1.001 + 2 ** -22 * (2 + Math.max(0, -Math.log(size || 1)));
    return !(Math.abs(v - want[i]!) <= relative * size + least);
  });
  expect(wrong < 0 ? 'right' : `column ${wrong}: ${got[wrong]} for ${want[wrong]}`).toBe('right');
}

const all = LEVELS.flatMap((level) => DTYPES.flatMap((dtype) => CASES.map(([name, V, of]) => ({ level, dtype, name, V, of }))));

test.each(all)('$level $dtype: $name', ({ level, dtype, V, of }) => {
  core().useSimd(level);
  const random = new Random(7);
  for (const target of [0, 2 * BLOCK - 1 < V ? 2 * BLOCK - 1 : V - 1, V - 1]) {
    const { data, values } = encode(
      dtype,
      Array.from({ length: V }, (_, i) => of(i, 4 * random.normal())),
    );
    const { p, logps } = softmax(values);
    if (!(logps[target]! > -Infinity)) continue;
    const entropy = -p.reduce((sum, v, i) => sum + (v > 0 ? v * logps[i]! : 0), 0);
    const input = () => ({ logits: data.slice(), dtype, vocabSize: V, targets: Int32Array.of(target) }); // gradients take their place
    const out = selectiveLogp({ ...input(), entropy: true });
    expect(Math.abs(out.logps[0]! - logps[target]!)).toBeLessThan(1e-6 * (1 + Math.abs(logps[target]!)));
    expect(Math.abs(out.entropies[0]! - entropy)).toBeLessThan(3e-6 * (1 + entropy));
    const minus = p.map((v, i) => (i === target ? 1 - v : -v)); // d logp / d logits
    if (1 - p[target]! > 1e-3)
      expectGradient(dtype, decode(dtype, selectiveLogpBackward({ ...input(), gradLogps: Float32Array.of(1) }).gradLogits), minus);
    const loss = () => ({ ...input(), advantages: Float32Array.of(1), completionLength: 1 });
    if (1 - p[target]! > 1e-3)
      expectGradient(
        dtype,
        decode(dtype, grpoLoss(loss()).gradLogits),
        minus.map((v) => -v),
      );
    const bonus = minus.map((v, i) => v - 0.5 * (p[i]! > 0 ? p[i]! * (logps[i]! + entropy) : 0)); // of logp + entropy / 2
    const slopes = { gradLogps: Float32Array.of(1), gradEntropies: Float32Array.of(0.5) };
    const close = decode(dtype, selectiveLogpBackward({ ...input(), ...slopes }).gradLogits);
    const scale = Math.max(...bonus.map(Math.abs));
    expect(Math.max(...close.map((v, i) => Math.abs(v - bonus[i]!)))).toBeLessThan((EPSILON[dtype] + 4e-6) * scale + 2 ** -24);
  }
});

test.each(LEVELS)('%s: a NaN is found whatever its bits say', (level) => {
  core().useSimd(level);
  const targets = Int32Array.of(3);
  const V = 2 * BLOCK + 11;
  for (const at of [0, 100, BLOCK + 8, V - 1]) {
    for (const bits of [0x7fc00000, 0x7fc00001, 0x7f800001, 0xffc00001, 0xff8001ff]) {
      const logits = Float32Array.from({ length: V }, (_, i) => (i % 7) - 3);
      new Uint32Array(logits.buffer)[at] = bits;
      expect(() => selectiveLogp({ logits, vocabSize: V, targets })).toThrow(/row 0/);
    }
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const nans = dtype === 'bfloat16' ? [0x7fc0, 0x7f81, 0xffc1, 0xff9f] : [0x7e00, 0x7c01, 0xfe01, 0xfdff];
      for (const bits of nans) {
        const logits = Uint16Array.from({ length: V }, (_, i) => toBits(dtype, (i % 7) - 3));
        logits[at] = bits;
        const input = { logits, dtype, vocabSize: V, targets };
        expect(() => selectiveLogp(input)).toThrow(/row 0/);
        expect(() => grpoLoss({ ...input, advantages: Float32Array.of(1), completionLength: 1 })).toThrow(/row 0/);
      }
    }
  }
});
