// 16-bit formats in plain JavaScript, written apart from the native conversions.
const { abs, floor, fround, log2, max, round } = Math; // jest looks globals up slowly
const f = new Float32Array(1);
const u = new Uint32Array(f.buffer);

export function toBf16(x: number): number {
  f[0] = x;
  const bits = u[0]!;
  const low = bits & 0xffff;
  let high = bits >>> 16;
  if (low > 0x8000 || (low === 0x8000 && high & 1)) high += 1;
  return Number.isNaN(x) ? 0x7fc0 : high & 0xffff;
}
export function fromBf16(h: number): number {
  u[0] = (h << 16) >>> 0;
  return f[0]!;
}
export function fromF16(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}
/** By search over the neighbours of the truncated value: slow and obvious. */
export function toF16(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const a = abs(x);
  if (a >= 65520) return sign | 0x7c00;
  const step = 2 ** (max(floor(log2(a || 1e-30)), -14) - 10);
  const q = a / step;
  let n = floor(q);
  if (q - n > 0.5 || (q - n === 0.5 && n % 2 === 1)) n += 1;
  const value = n * step;
  if (value < 2 ** -14) return sign | round(value * 2 ** 24);
  const e = floor(log2(value));
  return sign | ((e + 15) << 10) | round((value / 2 ** e - 1) * 1024);
}

export type Dtype = 'float32' | 'bfloat16' | 'float16';
export const fromBits = (dtype: Dtype, v: number): number => (dtype === 'float32' ? v : dtype === 'bfloat16' ? fromBf16(v) : fromF16(v));
export const toBits = (dtype: Dtype, v: number): number => (dtype === 'float32' ? fround(v) : dtype === 'bfloat16' ? toBf16(v) : toF16(v));
/** Distance between neighbouring numbers of the format around v. */
export function ulp(dtype: Dtype, v: number): number {
  const [bits, lowest] = dtype === 'float32' ? [23, -126] : dtype === 'bfloat16' ? [7, -126] : [10, -14];
  const exponent = v === 0 ? lowest : max(floor(log2(abs(v))), lowest);
  return 2 ** (exponent - bits);
}
