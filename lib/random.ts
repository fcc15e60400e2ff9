// Reproducible choices made in TypeScript (data order). Samples are drawn in native code by Philox.

/** splitmix64's finaliser on 64-bit integers. */
function mix(x: bigint): bigint {
  const mask = (1n << 64n) - 1n;
  x = (x + 0x9e3779b97f4a7c15n) & mask;
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & mask;
  return x ^ (x >> 31n);
}

const fold = (keys: number[]): bigint => keys.reduce((s, k) => mix(s ^ BigInt(k)), 0n);

/** A number from 0 to 2^31 - 1 that depends on the keys alone. */
export const hash31 = (...keys: number[]): number => Number(fold(keys) >> 33n);

/** A permutation of 0 .. n-1 that depends on the keys alone (Fisher-Yates over splitmix64 (Steele et al. 2014)). */
export function permutation(n: number, ...keys: number[]): Int32Array {
  let state = fold(keys);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; --i) {
    state = mix(state);
    const j = Number(state % BigInt(i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
