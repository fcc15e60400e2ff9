// Random cases of the loss: one batch in the form that the ops take, and the same in the oracle's.
import type { GrpoLossBatch, GrpoLossConfig, LogitsDtype } from '../../lib/index.js';
import { randomConfig } from './case_config.js';
import { fromBits, toBits, type Dtype } from './half.js';
import { targetLogp, type OracleBatch } from './oracle.js';
import { settings, type LossType, type OracleConfig, type Settings } from './oracle_types.js';
import { Random } from './random.js';

export interface Case {
  dtype: Dtype;
  batch: GrpoLossBatch & { dtype: LogitsDtype };
  config: GrpoLossConfig;
  oracleBatch: OracleBatch;
  /** With every default filled in, by the oracle's own list. */
  oracleConfig: Settings;
  /** Element of row t's first column. */
  start: number[];
  gaps: boolean;
}

const SMALL = [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 64, 65];
const LARGE = [127, 129, 300, 1000, 2047, 2048, 2049, 4097];

function lengths(r: Random, rectangular: boolean): number[] {
  const B = r.pick([1, 1, 2, 2, 3, 4, 6]);
  const longest = r.pick([4, 7, 7, 13]);
  const T = r.below(longest);
  return Array.from({ length: B }, () => (rectangular ? T : r.below(longest)));
}

/** Logits of row t; now and then nearly one-hot, with masked vocabulary, or far from 0. */
function logitsRow(r: Random, V: number, dtype: Dtype, target: number): number[] {
  const spread = r.pick([1, 3, 10]);
  const shift = dtype === 'float16' ? 0 : r.pick([0, 0, 0, 100, -1000]);
  const z = Array.from({ length: V }, () => shift + spread * r.normal());
  if (r.chance(0.15)) z[target]! += 25;
  if (r.chance(0.15)) for (let j = 0; j < V; ++j) if (j !== target && r.chance(0.5)) z[j] = -Infinity;
  return z.map((v) => fromBits(dtype, toBits(dtype, v)));
}

interface Shape {
  L: number[];
  offsets: Int32Array;
  sequenceOf: number[];
  mask?: Uint8Array;
  truncated?: Uint8Array;
  selected: boolean[];
}

function shape(r: Random, rectangular: boolean): Shape {
  const L = lengths(r, rectangular);
  const offsets = new Int32Array(L.length + 1);
  L.forEach((n, i) => (offsets[i + 1] = offsets[i]! + n));
  const mask = r.chance(0.6) ? Uint8Array.from({ length: offsets[L.length]! }, () => Number(r.chance(0.7))) : undefined;
  const truncated = r.chance(0.3) ? Uint8Array.from(L, () => Number(r.chance(0.4))) : undefined;
  const sequenceOf = L.flatMap((n, i) => new Array<number>(n).fill(i));
  const selected = sequenceOf.map((s, t) => (!mask || mask[t] !== 0) && !truncated?.[s]);
  return { L, offsets, sequenceOf, mask, truncated, selected };
}

/** Log-probs of the other policies around the policy's own; what is behind the mask is NaN. */
function policies(r: Random, c: OracleConfig, logps: readonly number[], selected: readonly boolean[]) {
  const around = (base: ArrayLike<number>, spreads: readonly number[]) => {
    const calm = r.chance(0.5) ? [r.pick(spreads)] : spreads; // all tokens alike: sequence sums then stay near 0 now and then
    return Float32Array.from(logps, (_, t) => (selected[t] ? base[t]! + r.pick(calm) * r.normal() : NaN));
  };
  const off = [0, 0.05, 0.3, 1, 3].slice(c.lossType === 'kl_cov' ? 1 : 0); // its |log-ratio| has a kink at 0
  const oldLogps = r.chance(0.7) ? around(logps, off) : undefined;
  if (c.lossType === 'dppo') oldLogps?.forEach((v, t) => (oldLogps[t] = Math.min(v, 0))); // a probability
  const refLogps = (c.beta ?? 0) > 0 ? around(logps, [0, 0.05, 0.3, 1, 3]) : undefined;
  const asked = c.samplerImportanceSampling !== undefined || (c.offPolicyMaskThreshold !== undefined && r.chance(0.5));
  const samplerLogps = asked ? around(oldLogps ?? logps, [0.01, 0.1, 0.5, 2]) : undefined;
  if (samplerLogps && r.chance(0.4)) samplerLogps.forEach((_, t) => r.chance(0.2) && (samplerLogps[t] = NaN));
  return { oldLogps, refLogps, samplerLogps };
}

/** Where the rows lie: compact, with gaps between rows, or with gaps between sequences. */
function placement(r: Random, s: Shape, V: number) {
  const rowStride = r.chance(0.3) ? V + r.below(9) : V;
  const sequenceStride = r.chance(0.25) ? Math.max(1, ...s.L) * rowStride + r.below(50) : 0;
  const start = s.sequenceOf.map((i, t) => (sequenceStride ? i * sequenceStride + (t - s.offsets[i]!) * rowStride : t * rowStride));
  const strides = { ...(rowStride !== V ? { rowStride } : {}), ...(sequenceStride ? { sequenceStride } : {}) };
  return { start, strides, gaps: rowStride !== V || sequenceStride !== 0 };
}

/** `only`: the loss types to draw from. */
export function makeCase(seed: number, only?: readonly LossType[]): Case {
  const r = new Random(seed);
  const dtype = r.pick(['float32', 'float32', 'bfloat16', 'float16'] as const);
  const rectangular = r.chance(0.5);
  const s = shape(r, rectangular);
  const { L, offsets, sequenceOf, mask, truncated, selected } = s;
  const [B, N] = [L.length, sequenceOf.length];
  const V = r.pick(r.chance(0.06) ? LARGE : SMALL);
  const c = randomConfig(r, only);
  const targets = Int32Array.from(selected, (on) => (on ? r.below(V) : r.pick([-7, 1 << 30, 0])));
  const rows = Array.from({ length: N }, (_, t) => logitsRow(r, V, dtype, selected[t] ? targets[t]! : 0));
  const oracleConfig = settings(c);
  const logps = rows.map((z, t) => (selected[t] ? targetLogp(z, targets[t]!, oracleConfig.temperature) : 0));
  const others = policies(r, c, logps, selected);
  const perToken = r.chance(0.2) && N !== B;
  const advantages = Float32Array.from({ length: perToken ? N : B }, () => r.pick([0, 1, -1, r.normal(), 3 * r.normal()]));
  const layout = rectangular && (N > 0 || L[0] === 0) ? { completionLength: L[0]! } : { offsets };
  const noSequences = 'completionLength' in layout && L[0] === 0; // 0 rows of length 0 are no sequences
  const { start, strides, gaps } = placement(r, s, V);
  const logits = store(dtype, rows, start, selected, V, r.below(5));
  const own = noSequences ? undefined : truncated;
  return {
    dtype,
    batch: {
      logits,
      dtype,
      vocabSize: V,
      targets,
      ...layout,
      ...strides,
      mask,
      ...others,
      advantages: noSequences && !perToken ? advantages.slice(0, 0) : advantages,
      truncated: own,
    },
    config: { ...c, ...(own ? { maskTruncatedCompletions: true } : {}) },
    oracleBatch: {
      rows,
      targets,
      offsets: noSequences ? [0] : offsets,
      selected,
      ...others,
      advantages: sequenceOf.map((i, t) => (perToken ? advantages[t]! : advantages[i]!)),
    },
    oracleConfig,
    start,
    gaps,
  };
}

/** A typed array behind an odd offset; unselected rows and gaps hold NaN. */
function store(dtype: Dtype, rows: number[][], start: number[], selected: boolean[], V: number, offset: number) {
  const length = start.reduce((end, s) => Math.max(end, s + V), 0);
  const make = dtype === 'float32' ? Float32Array : Uint16Array;
  const array = new make(new ArrayBuffer((length + offset) * make.BYTES_PER_ELEMENT), offset * make.BYTES_PER_ELEMENT, length);
  array.fill(dtype === 'float32' ? NaN : 0x7fff);
  rows.forEach((z, t) => {
    if (selected[t]) z.forEach((v, j) => (array[start[t]! + j] = toBits(dtype, v)));
  });
  return array;
}
