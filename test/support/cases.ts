// Random cases of the loss: one batch in the form that the ops take, and the same in the oracle's.
import type { GrpoLossBatch, GrpoLossConfig } from '../../lib/index.js';
import { fromBits, toBits, type Dtype } from './half.js';
import type { OracleBatch, OracleConfig } from './oracle.js';
import { Random } from './random.js';

export interface Case {
  dtype: Dtype;
  batch: GrpoLossBatch;
  config: GrpoLossConfig;
  oracleBatch: OracleBatch;
  oracleConfig: OracleConfig;
  /** Element of row t's first column. */
  start: number[];
  gaps: boolean;
}

const VOCABS = [1, 2, 3, 5, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 300, 1000, 2047, 2048, 2049, 4097];

function lengths(r: Random, rectangular: boolean): number[] {
  const B = r.pick([1, 1, 2, 3, 4, 6]);
  const T = r.below(7);
  return Array.from({ length: B }, () => (rectangular ? T : r.below(7)));
}

function config(r: Random): OracleConfig {
  const epsilon = r.pick([0.2, 0.1, 0.3]);
  const epsilonHigh = r.pick([epsilon, 0.28, 0.5]);
  return {
    lossType: r.pick(['grpo', 'bnpo', 'dr_grpo', 'dapo'] as const),
    epsilon,
    epsilonHigh,
    delta: r.chance(0.4) ? r.pick([1.2, 2, 4]) : undefined,
    beta: r.pick([0, 0, 0.04, 1]),
    klEstimator: r.pick(['k3', 'k3', 'k3', 'k1', 'k2'] as const),
    useBiasCorrectionKl: r.chance(0.5),
    temperature: r.pick([1, 1, 0.7, 1.6]),
    maxCompletionLength: r.pick([7, 16]),
    normalizer: r.chance(0.3) ? r.pick([3, 17.5, 100]) : undefined,
    emptySequences: r.chance(0.5) ? 'count' : 'exclude',
    entropyCoef: r.chance(0.25) ? r.pick([0.01, -0.5]) : 0,
    entropyNormalizer: r.chance(0.5) ? 9 : undefined,
  };
}

/** Logits of row t; now and then nearly one-hot, with masked vocabulary, or far from 0. */
function logitsRow(r: Random, V: number, dtype: Dtype, target: number): number[] {
  const spread = r.pick([1, 3, 10]);
  const shift = dtype === 'float16' ? 0 : r.pick([0, 0, 0, 100, -1000]);
  const z = Array.from({ length: V }, () => shift + spread * r.normal());
  if (r.chance(0.2)) z[target]! += 25;
  if (r.chance(0.2)) for (let j = 0; j < V; ++j) if (j !== target && r.chance(0.5)) z[j] = -Infinity;
  return z.map((v) => fromBits(dtype, toBits(dtype, v)));
}

export function makeCase(seed: number): Case {
  const r = new Random(seed);
  const dtype = r.pick(['float32', 'float32', 'bfloat16', 'float16'] as const);
  const rectangular = r.chance(0.5);
  const L = lengths(r, rectangular);
  const B = L.length;
  const offsets = Int32Array.from([0, ...L.map((_, i) => L.slice(0, i + 1).reduce((a, b) => a + b, 0))]);
  const N = offsets[B]!;
  const V = r.pick(VOCABS);
  const c = config(r);
  const mask = r.chance(0.6) ? Uint8Array.from({ length: N }, () => Number(r.chance(0.7))) : undefined;
  const truncated = r.chance(0.4) ? Uint8Array.from({ length: B }, () => Number(r.chance(0.4))) : undefined;
  const sequenceOf = L.flatMap((n, i) => new Array<number>(n).fill(i));
  const selected = sequenceOf.map((s, t) => (!mask || mask[t] !== 0) && !truncated?.[s]);
  const targets = Int32Array.from({ length: N }, (_, t) => (selected[t] ? r.below(V) : r.pick([-7, 1 << 30, 0])));
  const rows = Array.from({ length: N }, (_, t) => logitsRow(r, V, dtype, selected[t] ? targets[t]! : 0));
  const near = (t: number, base: number) => (selected[t] ? Math.fround(base + r.pick([0, 0.05, 0.3, 1, 3]) * r.normal()) : NaN);
  const rough = rows.map((z, t) => (selected[t] ? roughLogp(z, targets[t]!, c.temperature) : 0));
  const oldLogps = r.chance(0.7) ? Float32Array.from(rough, (v, t) => near(t, v)) : undefined;
  const refLogps = c.beta > 0 ? Float32Array.from(rough, (v, t) => near(t, v)) : undefined;
  const perToken = r.chance(0.2) && N !== B;
  const advantages = Float32Array.from({ length: perToken ? N : B }, () => r.pick([0, 1, -1, r.normal(), 3 * r.normal()]));
  const layoutOption = rectangular && (N > 0 || L[0] === 0) ? { completionLength: L[0]! } : { offsets };
  const B2 = 'completionLength' in layoutOption && L[0] === 0 ? 0 : B;
  const rowStride = r.chance(0.3) ? V + r.below(9) : V;
  const longest = Math.max(1, ...L);
  const sequenceStride = r.chance(0.25) ? longest * rowStride + r.below(50) : 0;
  const start = sequenceOf.map((s, t) => (sequenceStride ? s * sequenceStride + (t - offsets[s]!) * rowStride : t * rowStride));
  const gaps = rowStride !== V || sequenceStride !== 0;
  const logits = store(dtype, rows, start, selected, V, r.below(5));
  const shape = { ...(rowStride !== V ? { rowStride } : {}), ...(sequenceStride ? { sequenceStride } : {}) };
  return {
    dtype,
    batch: {
      logits,
      dtype,
      vocabSize: V,
      targets,
      ...layoutOption,
      ...shape,
      mask,
      oldLogps,
      refLogps,
      advantages: perToken ? advantages : advantages.slice(0, B2),
      truncated: B2 === B ? truncated : undefined,
    },
    config: { ...c, maskTruncatedCompletions: truncated !== undefined && B2 === B },
    oracleBatch: {
      rows,
      targets,
      offsets: B2 === B ? offsets : [0],
      selected,
      oldLogps,
      refLogps,
      advantages: sequenceOf.map((s, t) => (perToken ? advantages[t]! : advantages[s]!)),
    },
    oracleConfig: c,
    start,
    gaps,
  };
}

function roughLogp(z: number[], y: number, temperature: number): number {
  const top = Math.max(...z);
  return z[y]! / temperature - top / temperature - Math.log(z.reduce((s, v) => s + Math.exp((v - top) / temperature), 0));
}

/** A typed array behind an odd offset; unselected rows and gaps hold NaN. */
function store(dtype: Dtype, rows: number[][], start: number[], selected: boolean[], V: number, offset: number) {
  const size = rows.length === 0 ? 0 : start[rows.length - 1]! + V;
  const length = Math.max(size, ...start.map((s) => s + V), 0);
  const make = dtype === 'float32' ? Float32Array : Uint16Array;
  const array = new make(new ArrayBuffer((length + offset) * make.BYTES_PER_ELEMENT), offset * make.BYTES_PER_ELEMENT, length);
  array.fill(dtype === 'float32' ? NaN : 0x7fff);
  rows.forEach((z, t) => {
    if (selected[t]) z.forEach((v, j) => (array[start[t]! + j] = toBits(dtype, v)));
  });
  return array;
}
