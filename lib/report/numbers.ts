// Series of numbers for the charts: missing values are NaN throughout.

export interface Series {
  x: number[];
  y: number[];
  /** Range inside each bucket, where several steps became one point. */
  low?: number[];
  high?: number[];
}

/** Points that a chart draws at most: more cannot be seen, and the file must stay small. */
export const MAX_POINTS = 300;

/** Whatever was read from a file, as a number. */
export const toNumber = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : NaN);

export const isNumber = (value: number): boolean => Number.isFinite(value);

/** Mean of the finite values; NaN when there are none. */
export function mean(values: readonly number[]): number {
  let sum = 0;
  let n = 0;
  for (const v of values)
    if (Number.isFinite(v)) {
      sum += v;
      ++n;
    }
  return n ? sum / n : NaN;
}

/** Mean over the first and the last of many items: a tenth of them, at least one, at most 20. */
export function ends<T>(items: readonly T[], pick: (item: T) => unknown): [number, number] {
  const n = Math.max(1, Math.min(20, Math.floor(items.length / 10)));
  const values = (part: readonly T[]) => mean(part.map((item) => toNumber(pick(item))));
  return [values(items.slice(0, n)), values(items.slice(-n))];
}

/** The middle of the finite values; NaN when there are none. */
export function median(values: readonly number[]): number {
  const sorted = values.filter((v) => Number.isFinite(v)).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length === 0 ? NaN : sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Least and greatest finite value; NaN when there are none. No spread: long arrays overflow the stack. */
export function extent(values: Iterable<number>): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return low <= high ? [low, high] : [NaN, NaN];
}

/** Consecutive steps averaged into at most `limit` points, each with the range it stands for. */
export function downsample(x: readonly number[], y: readonly number[], limit = MAX_POINTS): Series {
  if (x.length <= limit) return { x: [...x], y: [...y] };
  const out: Required<Series> = { x: [], y: [], low: [], high: [] };
  for (let i = 0; i < limit; ++i) {
    const part = y.slice(Math.floor((i * x.length) / limit), Math.floor(((i + 1) * x.length) / limit));
    const [low, high] = extent(part);
    out.x.push(x[Math.floor(((i + 1) * x.length) / limit) - 1]!);
    out.y.push(mean(part));
    out.low.push(low);
    out.high.push(high);
  }
  return out;
}

/** Exponential moving average over about `span` points, without the pull towards the first value; gaps stay gaps. */
export function smooth(y: readonly number[], span: number): number[] {
  const keep = 1 - 2 / (span + 1);
  let sum = 0;
  let weight = 0;
  return y.map((v) => {
    if (!Number.isFinite(v)) return NaN;
    sum = keep * sum + v;
    weight = keep * weight + 1;
    return sum / weight;
  });
}

/** About `count` round numbers that cover [low, high]. */
export function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 5, 10].find((m) => m * power >= raw * 0.999)! * power;
  const out: number[] = [];
  for (let i = Math.ceil(low / unit - 1e-9); i * unit <= high + unit * 1e-9; ++i) out.push(Number((i * unit).toPrecision(12)));
  return out;
}

/** The range an axis shows: never empty, with a little air, and with 0 in it where 0 is near or asked for. */
export function niceRange([low, high]: [number, number], zero: boolean): [number, number] {
  if (!Number.isFinite(low)) return [0, 1];
  if (zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
  if (high - low <= Math.abs(high) * 1e-9) {
    const room = Math.abs(high) * 0.1 || 1;
    return zero && low === 0 ? [0, high + room] : [low - room, high + room];
  }
  const air = (high - low) * 0.06;
  return [low === 0 ? 0 : low - air, high === 0 ? 0 : high + air];
}

/** A number for people: at most 3–4 digits that matter. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7)
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e-', 'e−')
      .replace('e+', 'e')
      .replace('-', '−');
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4;
  return Number(value.toFixed(digits)).toLocaleString('en-US', { maximumFractionDigits: digits }).replace('-', '−');
}

/** The same in three digits, for headlines. */
export const brief = (value: number): string =>
  Number.isFinite(value) && Math.abs(value) < 1000 && Math.abs(value) >= 1e-3
    ? format(Number(value.toPrecision(Math.abs(value) < 1 ? 2 : 3)))
    : format(value);

export const percent = (share: number): string =>
  Number.isFinite(share)
    ? `${Number((share * 100).toFixed(share !== 0 && Math.abs(share) < 0.01 ? 2 : Math.abs(share) < 0.1 ? 1 : 0))} %`
    : '–';

/** 83 -> '1 min 23 s'. */
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

/** Up to `n` of the items, spread evenly, ends included. */
export function spread<T>(items: readonly T[], n: number): T[] {
  if (items.length <= n) return [...items];
  return Array.from({ length: n }, (_, i) => items[Math.round((i * (items.length - 1)) / (n - 1))]!);
}
