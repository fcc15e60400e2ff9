// The logits ops on the engine's tensors: the same numbers as on typed arrays, in place where that is asked, in the order of the calls.
import { describe, expect, test } from '@jest/globals';
import { Tensor, capabilities, grpoLoss, selectiveLogp, selectiveLogpBackward } from '../../lib/index';
import { toBf16 } from '../support/half';
import { Random } from '../support/random';

const V = 50;
const ROWS = 6;
const random = new Random(7);
const floats = (n: number, scale = 1) => Float32Array.from({ length: n }, () => (random.next() * 2 - 1) * scale);
const logits = floats(ROWS * V, 5);
const targets = Int32Array.from({ length: ROWS }, () => random.below(V));
const common = { vocabSize: V, targets, temperature: 0.8 };
const batch = {
  ...{ vocabSize: V, targets, completionLength: 3, mask: Uint8Array.of(1, 1, 1, 1, 0, 1) },
  ...{ oldLogps: floats(ROWS).map((v) => v - 4), refLogps: floats(ROWS).map((v) => v - 4) },
};
const config = { beta: 0.04, epsilon: 0.1, entropyCoef: 0.01, temperature: 0.8 };
const rows = (data: Float32Array | Uint16Array = logits.slice()) =>
  Tensor.from(data, [ROWS, V], data instanceof Uint16Array ? { dtype: 'bfloat16' } : {});
const bits = () => Uint16Array.from(logits, toBf16);

describe('Tensor', () => {
  test('holds what it was given, and gives copies', async () => {
    const data = floats(6);
    const t = Tensor.from(data, [2, 3]);
    expect([t.shape, t.dtype, t.device, t.length]).toEqual([[2, 3], 'float32', 'cpu', 6]);
    const before = data.slice();
    data.fill(0);
    const copy = (await t.toArray()) as Float32Array;
    expect(copy).toEqual(before);
    copy.fill(1);
    expect(await t.toArray()).toEqual(before);
  });

  test.each([
    [Int32Array.of(1, -2), 'int32'],
    [Uint8Array.of(1, 255), 'uint8'],
    [Float64Array.of(0.1, -2), 'float64'],
  ])('keeps %p as %s', async (data, dtype) => {
    const t = Tensor.from(data, [2]);
    expect(t.dtype).toBe(dtype);
    expect(await t.toArray()).toEqual(data);
  });

  test('a view with an offset, an empty tensor, and rounding to bfloat16', async () => {
    expect(await Tensor.from(logits.subarray(3, 5), [2]).toArray()).toEqual(logits.slice(3, 5));
    expect(await Tensor.from(new Float32Array(0), [0, 4]).toArray()).toEqual(new Float32Array(0));
    expect(await Tensor.from(logits, [ROWS, V], { dtype: 'bfloat16' }).toArray()).toEqual(bits());
  });

  test('wrong arguments are refused in the caller’s words', () => {
    const from = (...args: unknown[]) => (Tensor as unknown as { from(...args: unknown[]): unknown }).from(...args);
    expect(() => from([1, 2], [2])).toThrow(/^Expected a Float32Array, .* for data but received Array\(2\)/);
    expect(() => from(logits, [ROWS, V + 1])).toThrow(/^Expected a shape of 300 elements \(data.length\), not 306, for shape/);
    expect(() => from(logits, [-1])).toThrow(/for shape but received -1/);
    expect(() => from(bits(), [ROWS, V])).toThrow(
      /^Expected 'bfloat16' or 'float16' \(for a Uint16Array\) for dtype but received undefined/,
    );
    expect(() => from(logits, [ROWS, V], { device: 'gpu' })).toThrow(
      /^Expected 'cpu', 'cuda' or 'cuda:<number>' for device but received "gpu"/,
    );
    expect(() => from(logits, [ROWS, V], { devise: 'cpu' })).toThrow(/did you mean 'device'/);
  });

  test('cuda without CUDA says why', () => {
    if (capabilities().cuda) return;
    const reason = capabilities().reasons.cuda!.split(';')[0]!;
    expect(() => Tensor.from(logits, [ROWS, V], { device: 'cuda' })).toThrow(
      expect.objectContaining({ code: 'ERR_NO_CUDA', message: expect.stringContaining(`Device 'cuda' cannot be used: ${reason}`) }),
    );
  });

  test('after dispose every use is refused; an op under way is not disturbed', async () => {
    const t = rows();
    const pending = selectiveLogp({ ...common, logits: t });
    t.dispose();
    t.dispose();
    expect((await pending).logps).toEqual(selectiveLogp({ ...common, logits }).logps);
    const disposed = { code: 'ERR_DISPOSED' };
    await expect(t.toArray()).rejects.toMatchObject(disposed);
    await expect(selectiveLogp({ ...common, logits: t })).rejects.toMatchObject(disposed);
  });
});

describe.each<['float32' | 'bfloat16', () => Float32Array | Uint16Array]>([
  ['float32', () => logits.slice()],
  ['bfloat16', bits],
])('ops on %s tensors give the numbers of the typed-array ops', (dtype, data) => {
  test('selectiveLogp', async () => {
    const expected = selectiveLogp({ ...common, logits: data(), dtype, entropy: true });
    expect(await selectiveLogp({ ...common, logits: rows(data()), entropy: true })).toEqual(expected);
  });

  test('selectiveLogpBackward, in place and not', async () => {
    const gradients = { gradLogps: floats(ROWS), gradEntropies: floats(ROWS) };
    const expected = selectiveLogpBackward({ ...common, ...gradients, logits: data(), dtype }).gradLogits;
    const apart = rows(data());
    const other = await selectiveLogpBackward({ ...common, ...gradients, logits: apart, inPlace: false });
    expect(other.gradLogits).not.toBe(apart);
    expect(await other.gradLogits.toArray()).toEqual(expected);
    expect(await apart.toArray()).toEqual(data());
    const { gradLogits } = await selectiveLogpBackward({ ...common, ...gradients, logits: apart });
    expect(gradLogits).toBe(apart);
    expect(await apart.toArray()).toEqual(expected);
  });

  test('grpoLoss from rewards, in place and not', async () => {
    const rewards = { rewards: [1, 0], numGenerations: 2 };
    const expected = grpoLoss({ ...batch, ...rewards, logits: data(), dtype }, config);
    const t = rows(data());
    const apart = await grpoLoss({ ...batch, ...rewards, logits: t }, { ...config, inPlace: false });
    expect({ ...apart, gradLogits: await apart.gradLogits.toArray() }).toEqual(expected);
    expect(await t.toArray()).toEqual(data());
    const inPlace = await grpoLoss({ ...batch, ...rewards, logits: t }, config);
    expect(inPlace.gradLogits).toBe(t);
    expect({ ...inPlace, gradLogits: await t.toArray() }).toEqual(expected);
  });
});

describe('calls', () => {
  test('token-sized arrays may be tensors as well', async () => {
    const advantages = Float32Array.of(1, -0.5);
    const expected = grpoLoss({ ...batch, advantages, logits: logits.slice() }, config);
    const t = (data: Float32Array | Int32Array | Uint8Array) => Tensor.from(data, [data.length]);
    const tensors = { targets: t(targets), mask: t(batch.mask), oldLogps: t(batch.oldLogps), refLogps: t(batch.refLogps) };
    const { gradLogits, ...rest } = await grpoLoss({ ...batch, ...tensors, advantages: t(advantages), logits: rows() }, config);
    expect({ ...rest, gradLogits: await gradLogits.toArray() }).toEqual(expected);
  });

  test('run in order without being waited for', async () => {
    const t = rows();
    const advantages = Float32Array.of(1, -0.5);
    const first = selectiveLogp({ ...common, logits: t });
    const loss = grpoLoss({ ...batch, advantages, logits: t }, config);
    const after = t.toArray();
    expect((await first).logps).toEqual(selectiveLogp({ ...common, logits }).logps);
    const expected = grpoLoss({ ...batch, advantages, logits: logits.slice() }, config);
    expect((await loss).loss).toBe(expected.loss);
    expect(await after).toEqual(expected.gradLogits);
  });

  test('arrays may change or be transferred while an op runs', async () => {
    const mine = targets.slice();
    const pending = selectiveLogp({ ...common, targets: mine, logits: rows() });
    structuredClone(mine.buffer, { transfer: [mine.buffer] });
    expect((await pending).logps).toEqual(selectiveLogp({ ...common, logits }).logps);
  });

  test('errors name what the typed-array ops name', async () => {
    const t = rows();
    await expect(selectiveLogp({ ...common, vocabSize: V + 1, logits: t })).rejects.toThrow(
      /^Expected 306 elements \(6 rows of 51\) for logits/,
    );
    await expect(selectiveLogp({ ...common, dtype: 'bfloat16', logits: t })).rejects.toThrow(/'float32', the Tensor's own, for dtype/);
    await expect(selectiveLogp({ ...common, targets: targets.with(2, V), logits: t })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG',
      message: `Expected a token id from 0 to ${V - 1} for targets[2] but received ${V}`,
    });
    const bad = logits.slice();
    bad[V * 3 + 4] = NaN;
    await expect(selectiveLogp({ ...common, logits: rows(bad) })).rejects.toMatchObject({ code: 'ERR_NON_FINITE' });
    const ints = Tensor.from(new Int32Array(ROWS * V), [ROWS, V]);
    await expect(selectiveLogp({ ...common, logits: ints })).rejects.toThrow(/for logits.dtype but received "int32"/);
  });

  test('a strided view of a tensor, whose gaps are left alone', async () => {
    const padded = floats(ROWS * (V + 3));
    const input = { ...common, rowStride: V + 3, gradLogps: floats(ROWS) };
    const expected = padded.slice();
    selectiveLogpBackward({ ...input, logits: expected });
    const t = Tensor.from(padded, [ROWS, V + 3]);
    await selectiveLogpBackward({ ...input, logits: t });
    expect(await t.toArray()).toEqual(expected);
  });
});
