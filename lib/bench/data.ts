// Made-up inputs (the same on every machine) and their exact answers in fp64.

/** xorshift32: numbers in [0, 1). */
export function noise(seed = 0x9e3779b9): () => number {
  let s = seed | 0 || 1;
  return () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 2 ** 32;
  };
}

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** Round to nearest even. */
export function toBfloat16(value: number): number {
  float[0] = value;
  return (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) >>> 16;
}

export function fromBfloat16(value: number): number {
  bits[0] = value << 16;
  return float[0]!;
}

export const number = (array: Float32Array | Uint16Array, i: number): number =>
  array instanceof Uint16Array ? fromBfloat16(array[i]!) : array[i]!;

/** Numbers in [-size, size): a block of noise, repeated by an odd length so that rows differ. Arrays to be multiplied need different seeds. */
export function filled(length: number, dtype: 'float32' | 'bfloat16', size: number, seed?: number): Float32Array | Uint16Array {
  const array = dtype === 'float32' ? new Float32Array(length) : new Uint16Array(length);
  const next = noise(seed);
  const block = Math.min(length, 1_000_003);
  for (let i = 0; i < block; ++i) {
    const value = (2 * next() - 1) * size;
    array[i] = dtype === 'float32' ? value : toBfloat16(value);
  }
  for (let done = block; done < length; done *= 2) array.copyWithin(done, 0, Math.min(done, length - done));
  return array;
}

/**
 * softmax - onehot(target) in fp64: minus the derivative of a row's log-prob. The target's entry is minus the sum of the others, which does
 * not cancel where the target has nearly all of the mass.
 */
export function logpGradient(row: (i: number) => number, size: number, target: number): Float64Array {
  const g = Float64Array.from({ length: size }, (_, i) => row(i));
  const max = g.reduce((a, b) => Math.max(a, b), -Infinity);
  let others = 0;
  g.forEach((z, i) => {
    g[i] = Math.exp(z - max);
    if (i !== target) others += g[i];
  });
  const sum = others + g[target]!;
  g[target] = -others;
  return g.map((v) => v / sum);
}

/** |a - b| / |b| in L2. */
export function relativeError(a: (i: number) => number, b: Float64Array): number {
  let difference = 0;
  let size = 0;
  b.forEach((value, i) => {
    difference += (a(i) - value) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}
