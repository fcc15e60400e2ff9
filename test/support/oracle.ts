// The loss and its gradient in float64, written from docs/losses.md and the papers and apart from native/math: plain loops over the
// vocabulary here, the loss by log-prob and entropy in oracle_policy.ts, its derivative by a tape.
import { conditioning, policyOracle } from './oracle_policy.js';
import { settings, type OracleConfig, type PolicyInput } from './oracle_types.js';

export { policyOracle } from './oracle_policy.js';
export type { OracleConfig, PolicyInput } from './oracle_types.js';

export interface OracleBatch extends Omit<PolicyInput, 'logps' | 'entropies'> {
  rows: number[][]; // logits
  targets: ArrayLike<number>;
}

const { abs, exp, expm1, log, log1p, max } = Math; // jest looks globals up slowly

export function softmaxRow(z: ArrayLike<number>, temperature: number) {
  const V = z.length;
  const [p, logp] = [new Float64Array(V), new Float64Array(V)];
  let top = -Infinity;
  for (let j = 0; j < V; ++j) top = max(top, z[j]! / temperature);
  let sum = 0;
  for (let j = 0; j < V; ++j) sum += exp((logp[j] = z[j]! / temperature - top));
  const logSum = log(sum);
  let entropy = 0;
  for (let j = 0; j < V; ++j) {
    p[j] = exp((logp[j]! -= logSum));
    if (p[j]! > 0) entropy -= p[j]! * logp[j]!;
  }
  return { p, logp, lse: top + logSum, entropy };
}

/** log p(target) without cancellation near p = 1. */
export function targetLogp(z: ArrayLike<number>, y: number, temperature: number): number {
  let others = 0;
  for (let j = 0; j < z.length; ++j) if (j !== y) others += exp((z[j]! - z[y]!) / temperature);
  return others < Infinity ? 0 - log1p(others) : softmaxRow(z, temperature).logp[y]!;
}

type Row = ReturnType<typeof softmaxRow> & { target: number; targetLogp: number };

/** d(loss) / d(logits) of one row from the derivatives by its log-prob and its entropy. */
function rowGradient(row: Row, gradLogp: number, gradEntropy: number, temperature: number): Float64Array {
  return row.p.map((p, j) => {
    const own = j === row.target ? -expm1(row.targetLogp) : -p;
    const entropySlope = p > 0 ? -p * (row.logp[j]! + row.entropy) : 0;
    return (gradLogp * own + gradEntropy * entropySlope) / temperature;
  });
}

export function grpoOracle(b: OracleBatch, config: OracleConfig) {
  const { temperature } = settings(config);
  const rows = b.rows.map((z, t): Row | undefined => {
    if (!b.selected[t]) return undefined;
    const target = b.targets[t]!;
    return { ...softmaxRow(z, temperature), target, targetLogp: targetLogp(z, target, temperature) };
  });
  const input = { ...b, logps: rows.map((r) => r?.targetLogp ?? 0), entropies: rows.map((r) => r?.entropy ?? 0) };
  const policy = policyOracle(input, config);
  const { gradLogps, gradEntropies } = policy;
  const conditioned = conditioning(input, config, policy);
  return {
    ...policy,
    logps: input.logps,
    entropies: input.entropies,
    grad: rows.map((r, t) => (r ? rowGradient(r, gradLogps[t]!, gradEntropies[t]!, temperature) : new Float64Array(b.rows[t]!.length))),
    /** What a rounding of the log-probs (and of the terms of the derivative) comes to, as a multiple of its relative size. */
    lossScale: conditioned.loss,
    scale: Array.from(conditioned.gradLogps, (s, t) => s + abs(gradEntropies[t]!) * (1 + input.entropies[t]!)),
  };
}

/** Advantages of one batch of groups: r - baseline over std + eps. */
export function advantagesOracle(
  rewards: number[],
  offsets: ArrayLike<number>,
  o: { scaleRewards: string; baseline: string; transform: string; ddof: number; eps: number },
): number[] {
  const finite = (x: number[]) => x.filter(Number.isFinite);
  const mean = (x: number[]) => x.reduce((a, b) => a + b, 0) / x.length;
  const std = (x: number[]) => (x.length > o.ddof ? Math.sqrt(x.reduce((a, b) => a + (b - mean(x)) ** 2, 0) / (x.length - o.ddof)) : 0);
  const same = (x: number[]) => x.every((v) => v === x[0]);
  const groups = Array.from({ length: offsets.length - 1 }, (_, g) => rewards.slice(offsets[g], offsets[g + 1]));
  const ranked = groups.map((g) => {
    if (o.transform === 'none') return g;
    const sorted = finite(g).sort((a, b) => a - b);
    return g.map((r) => (Number.isFinite(r) ? (sorted.indexOf(r) + sorted.lastIndexOf(r)) / 2 + 1 : r));
  });
  const all = finite(ranked.flat());
  return ranked.flatMap((g) => {
    const valid = finite(g);
    return g.map((r, i) => {
      if (!Number.isFinite(r)) return 0;
      if (o.baseline !== 'none' && same(o.baseline === 'batch_mean' ? all : valid)) return 0;
      const others = finite(g.filter((_, k) => k !== i));
      const baseline = { group_mean: mean(valid), leave_one_out: mean(others), batch_mean: mean(all), none: 0 }[o.baseline]!;
      const divisor = { group: std(valid) + o.eps, batch: std(all) + o.eps, none: 1 }[o.scaleRewards]!;
      return (r - baseline) / divisor;
    });
  });
}
