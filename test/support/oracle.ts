// The loss and its gradient in float64, written from the papers' formulas and apart from native/math: plain loops, derivative by
// hand. arXiv:1707.06347 (clip), 2402.03300 (GRPO, k3), 2503.14476 (DAPO), 2503.20783 (Dr. GRPO), TRL 1.16 where they leave a choice.

export interface OracleConfig {
  lossType: 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo';
  epsilon: number;
  epsilonHigh: number;
  delta?: number;
  beta: number;
  klEstimator: 'k1' | 'k2' | 'k3';
  useBiasCorrectionKl: boolean;
  temperature: number;
  maxCompletionLength: number;
  normalizer?: number;
  emptySequences: 'count' | 'exclude';
  entropyCoef: number;
  entropyNormalizer?: number;
}

export interface OracleBatch {
  rows: number[][]; // logits
  targets: ArrayLike<number>;
  offsets: ArrayLike<number>;
  selected: boolean[]; // mask and truncation together
  advantages: number[]; // per token
  oldLogps?: ArrayLike<number>;
  refLogps?: ArrayLike<number>;
}

export function softmaxRow(z: number[], temperature: number): { p: number[]; logp: number[]; lse: number; entropy: number } {
  const scaled = z.map((v) => v / temperature);
  const top = Math.max(...scaled);
  const sum = scaled.reduce((s, v) => s + Math.exp(v - top), 0);
  const lse = top + Math.log(sum);
  const logp = scaled.map((v) => v - top - Math.log(sum));
  const p = logp.map(Math.exp);
  const entropy = p.reduce((h, pj, j) => (pj > 0 ? h - pj * logp[j]! : h), 0);
  return { p, logp, lse, entropy };
}

/** log p(target) without cancellation near p = 1. */
export function targetLogp(z: number[], y: number, temperature: number): number {
  const others = z.filter((_, j) => j !== y).reduce((s, v) => s + Math.exp((v - z[y]!) / temperature), 0);
  return Number.isFinite(others) ? 0 - Math.log1p(others) : softmaxRow(z, temperature).logp[y]!;
}

const LIMIT = 40; // log-ratios saturate (documented)

/** Loss, KL, ratio of one token and d(loss)/d(logp). */
export function tokenOracle(c: OracleConfig, logp: number, old: number | undefined, ref: number, advantage: number) {
  const x = old === undefined ? 0 : logp - old;
  const r = Math.exp(Math.min(x, LIMIT));
  const dr = x > LIMIT ? 0 : r;
  const delta = c.delta ?? Infinity;
  const [low, high] = [1 - c.epsilon, 1 + c.epsilonHigh];
  const bounded = Math.min(r, delta);
  const clipped = Math.min(Math.max(r, low), high);
  let surrogate = bounded * advantage;
  let slope = r <= delta ? advantage * dr : 0;
  if (clipped * advantage < surrogate) {
    surrogate = clipped * advantage;
    slope = r >= low && r <= high ? advantage * dr : 0;
  }
  let loss = -surrogate;
  let dloss = -slope;
  let kl = 0;
  if (c.beta !== 0) {
    const d = Math.min(ref - logp, LIMIT);
    const dd = ref - logp > LIMIT ? 0 : -1;
    const table = { k1: [-d, -dd], k2: [(d * d) / 2, d * dd], k3: [Math.expm1(d) - d, Math.expm1(d) * dd] } as const;
    const [value, derivative] = table[c.klEstimator];
    kl = c.useBiasCorrectionKl ? value * r : value;
    loss += c.beta * kl;
    dloss += c.beta * (c.useBiasCorrectionKl ? derivative * r + value * dr : derivative);
  }
  const clippedLow = bounded < low && advantage < 0;
  const clippedHigh = bounded > high && advantage > 0;
  return { loss, dloss, kl, ratio: r, clippedLow, clippedHigh };
}

/** The weight of every token in the total. */
function weights(c: OracleConfig, offsets: ArrayLike<number>, selected: boolean[]): number[] {
  const B = offsets.length - 1;
  const lengths = Array.from({ length: B }, (_, i) => selected.slice(offsets[i], offsets[i + 1]).filter(Boolean).length);
  const tokens = lengths.reduce((a, b) => a + b, 0);
  const counted = c.emptySequences === 'count' ? B : lengths.filter((l) => l > 0).length;
  const w = new Array<number>(selected.length).fill(0);
  for (let i = 0; i < B; ++i)
    for (let t = offsets[i]!; t < offsets[i + 1]!; ++t) {
      if (!selected[t]) continue;
      if (c.lossType === 'grpo') w[t] = 1 / lengths[i]! / (c.normalizer ?? counted);
      else if (c.lossType === 'dr_grpo') w[t] = 1 / (c.normalizer ?? counted * c.maxCompletionLength);
      else w[t] = 1 / (c.normalizer ?? tokens);
    }
  return w;
}

export function grpoOracle(b: OracleBatch, c: OracleConfig) {
  const N = b.selected.length;
  const w = weights(c, b.offsets, b.selected);
  const tokens = b.selected.filter(Boolean).length;
  const h = c.entropyCoef === 0 ? 0 : c.entropyCoef / (c.entropyNormalizer ?? tokens);
  const out = { loss: 0, grad: [] as number[][], logps: new Array<number>(N).fill(0), entropies: new Array<number>(N).fill(0) };
  const gradLogps = new Array<number>(N).fill(0);
  // What the terms of the derivative amount to before they cancel (near a policy equal to its reference, say).
  const scale = new Array<number>(N).fill(0);
  const sums = { kl: 0, entropy: 0, ratio: 0, low: 0, high: 0, min: Infinity, max: -Infinity };
  for (let t = 0; t < N; ++t) {
    const row = b.rows[t]!;
    out.grad.push(row.map(() => 0));
    if (!b.selected[t]) continue;
    const y = b.targets[t]!;
    const s = softmaxRow(row, c.temperature);
    const logp = targetLogp(row, y, c.temperature);
    const token = tokenOracle(c, logp, b.oldLogps?.[t], b.refLogps?.[t] ?? 0, b.advantages[t]!);
    out.logps[t] = logp;
    out.entropies[t] = s.entropy;
    out.loss += w[t]! * token.loss - h * s.entropy;
    scale[t] = w[t]! * (Math.abs(b.advantages[t]!) * token.ratio + c.beta * (1 + Math.abs(token.kl)) * (1 + token.ratio)) + Math.abs(h);
    const g = (gradLogps[t] = w[t]! * token.dloss);
    for (let j = 0; j < row.length; ++j) {
      const own = j === y ? -Math.expm1(logp) : -s.p[j]!;
      const entropySlope = s.p[j]! > 0 ? -s.p[j]! * (s.logp[j]! + s.entropy) : 0;
      out.grad[t]![j] = (g * own - h * entropySlope) / c.temperature;
    }
    sums.kl += token.kl;
    sums.entropy += s.entropy;
    sums.ratio += token.ratio;
    sums.low += Number(token.clippedLow);
    sums.high += Number(token.clippedHigh);
    sums.min = Math.min(sums.min, token.ratio);
    sums.max = Math.max(sums.max, token.ratio);
  }
  return { ...out, gradLogps, scale, tokens, sums };
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
