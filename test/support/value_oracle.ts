// The ops of lib/ops that are token-sized or smaller, in float64 and as slowly and plainly as the definitions read: sums over all later
// tokens, over all subsets, over all steps. Written from the papers, apart from native/math.

const { exp, log1p, max, min, sqrt } = Math;
const sum = (x: number[]) => x.reduce((a, b) => a + b, 0);
const mean = (x: number[]) => sum(x) / x.length;
function variance(x: number[], ddof: number): number {
  const m = mean(x);
  return x.length > ddof ? sum(x.map((v) => (v - m) ** 2)) / (x.length - ddof) : 0;
}
const constant = (x: number[]) => x.every((v) => v === x[0]);

export interface Tokens {
  offsets: number[];
  selected: boolean[];
}
const rowsOf = ({ offsets }: Tokens, s: number) => Array.from({ length: offsets[s + 1]! - offsets[s]! }, (_, i) => offsets[s]! + i);
const sequences = (t: Tokens) => t.offsets.length - 1;
const each = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));

export interface GaeInput extends Tokens {
  rewards: number[];
  values: number[];
  lastValues?: number[];
}

/** A_t = sum over later selected tokens of (gamma lambda)^distance times the temporal difference there. */
export function gaeOracle(b: GaeInput, o: { gamma: number; lambda: number; whiten: boolean }) {
  const advantages = b.values.map(() => 0);
  const returns = b.values.map(() => 0);
  for (let s = 0; s < sequences(b); ++s) {
    const rows = rowsOf(b, s).filter((t) => b.selected[t]);
    const next = rows.map((_, i) => (i + 1 < rows.length ? b.values[rows[i + 1]!]! : (b.lastValues?.[s] ?? 0)));
    const delta = rows.map((t, i) => b.rewards[t]! + o.gamma * next[i]! - b.values[t]!);
    rows.forEach((t, i) => {
      advantages[t] = sum(delta.slice(i).map((d, k) => (o.gamma * o.lambda) ** k * d));
      returns[t] = advantages[t] + b.values[t]!;
    });
  }
  const all = advantages.filter((_, t) => b.selected[t]);
  const [m, divisor] = [mean(all), sqrt(variance(all, 1) + 1e-8)];
  const white = (a: number) => (a - m) / divisor;
  return { advantages: advantages.map((a, t) => (o.whiten && b.selected[t] ? white(a) : a)), returns };
}

export interface ValueInput extends Tokens {
  values: number[];
  oldValues?: number[];
  returns: number[];
}

export function valueLossOracle(b: ValueInput, o: { clip?: number; normalizer?: number }) {
  const tokens = b.selected.filter(Boolean).length;
  const n = o.normalizer ?? max(1, tokens);
  let [loss, clipped] = [0, 0];
  const gradValues = b.values.map((v, t) => {
    if (!b.selected[t]) return 0;
    const target = b.returns[t]!;
    const held = o.clip === undefined ? v : min(max(v, b.oldValues![t]! - o.clip), b.oldValues![t]! + o.clip);
    const [plain, other] = [(v - target) ** 2, (held - target) ** 2];
    loss += (0.5 * max(plain, other)) / n;
    if (other > plain) clipped += 1;
    return other > plain ? 0 : (v - target) / n;
  });
  return { loss, gradValues, clipRatio: tokens ? clipped / tokens : 0, tokens };
}

export interface Pairs {
  chosen: number[];
  rejected: number[];
  margins?: number[];
}

export function preferenceOracle(b: Pairs, o: { coefficient: number; normalizer?: number }) {
  const n = o.normalizer ?? max(1, b.chosen.length);
  const pairs = b.chosen.map((c, i) => ({ c, r: b.rejected[i]!, x: c - b.rejected[i]! - (b.margins?.[i] ?? 0) }));
  const softplus = (z: number) => (z > 30 ? z + exp(-z) : log1p(exp(z)));
  const wrong = (x: number) => (x > 30 ? exp(-x) : 1 / (1 + exp(x))); // 1 - sigmoid(x)
  return {
    loss: sum(pairs.map(({ c, r, x }) => softplus(-x) + o.coefficient * (c + r) ** 2)) / n,
    gradChosen: pairs.map(({ c, r, x }) => (2 * o.coefficient * (c + r) - wrong(x)) / n),
    gradRejected: pairs.map(({ c, r, x }) => (2 * o.coefficient * (c + r) + wrong(x)) / n),
    accuracy: pairs.length ? mean(pairs.map(({ c, r }) => Number(c > r))) : 0,
    margin: pairs.length ? mean(pairs.map(({ c, r }) => c - r)) : 0,
  };
}

function subsets(n: number, k: number): number[][] {
  const all = each(2 ** n, (bits) => each(n, (i) => i).filter((i) => (bits >> i) & 1));
  return all.filter((s) => s.length === k);
}

/** One group: every subset of k completions, its reward the best of them, its advantage its z-score among all subsets. */
export function passAtKOracle(rewards: number[], k: number) {
  if (rewards.length === 0) return { pass: 0, advantages: [] };
  const all = subsets(rewards.length, k);
  const best = all.map((s) => max(...s.map((i) => rewards[i]!)));
  const [pass, sigma] = [mean(best), sqrt(variance(best, 0))];
  const advantageOf = (i: number) => mean(best.filter((_, j) => all[j]!.includes(i)).map((r) => (r - pass) / sigma));
  return { pass, advantages: rewards.map((_, i) => (constant(best) ? 0 : advantageOf(i))) };
}

export interface Steps {
  offsets: number[];
  stepRewards: number[];
  stepEnds: number[];
  stepOffsets: number[];
  groupOffsets: number[];
}

export function processOracle(b: Steps, o: { scale: 'group' | 'none'; ddof: number; eps: number }) {
  const advantages = new Array<number>(b.offsets[b.offsets.length - 1]!).fill(0);
  const groups = each(b.groupOffsets.length - 1, (g) => {
    const [first, last] = [b.groupOffsets[g]!, b.groupOffsets[g + 1]!];
    const all = b.stepRewards.slice(b.stepOffsets[first], b.stepOffsets[last]);
    const [m, std] = all.length ? [mean(all), sqrt(variance(all, o.ddof))] : [0, 0];
    const score = (r: number) => (constant(all) ? 0 : (r - m) / (o.scale === 'group' ? std + o.eps : 1));
    for (let s = first; s < last; ++s)
      for (let t = b.offsets[s]!; t < b.offsets[s + 1]!; ++t)
        for (let i = b.stepOffsets[s]!; i < b.stepOffsets[s + 1]!; ++i) if (b.stepEnds[i]! >= t) advantages[t]! += score(b.stepRewards[i]!);
    return { mean: m, std: constant(all) ? 0 : std, zeroStd: Number(constant(all)) };
  });
  return { advantages, groups };
}

/** Numbers that are there. */
const present = (x: number[]) => x.filter((v) => Number.isFinite(v));
/** (r - mean) / (std + eps) of those, NaN of the others; 0 where they are all equal. */
function scores(x: number[], ddof: number, eps: number): number[] {
  const there = present(x);
  const [m, divisor] = [mean(there), sqrt(variance(there, ddof)) + eps];
  return x.map((v) => (!Number.isFinite(v) ? NaN : constant(there) ? 0 : (v - m) / divisor));
}

/** Weighted sums over functions of what is there; NaN where nothing is. */
export function weightedSums(rewards: number[][], weights: number[]): number[] {
  return rewards[0]!.map((_, i) => {
    const there = rewards.flatMap((row, k) => (Number.isFinite(row[i]) ? [weights[k]! * row[i]!] : []));
    return there.length ? sum(there) : NaN;
  });
}

/** normalize_then_sum; the other way is weightedSums and then advantagesOracle. */
export function gdpoOracle(rewards: number[][], weights: number[], groupOffsets: number[], o: { ddof: number; eps: number }): number[] {
  const byGroup = (x: number[]) => each(groupOffsets.length - 1, (g) => x.slice(groupOffsets[g], groupOffsets[g + 1]));
  const normalised = rewards.map((row) => byGroup(row).flatMap((g) => scores(g, o.ddof, o.eps)));
  const joined = weightedSums(normalised, weights);
  const constantGroup = byGroup(joined).flatMap((g) => g.map(() => constant(present(g))));
  return scores(joined, o.ddof, o.eps).map((a, i) => (Number.isNaN(a) || constantGroup[i] ? 0 : a));
}

export interface KlInput extends Tokens {
  rewards: number[];
  logps: number[];
  refLogps: number[];
}

export function rewardsWithKlOracle(b: KlInput, o: { beta: number; estimator: 'k1' | 'k2' | 'k3' }): number[] {
  const estimate = (t: number) => {
    const d = min(b.refLogps[t]! - b.logps[t]!, 40);
    return { k1: -d, k2: d ** 2 / 2, k3: exp(d) - d - 1 }[o.estimator];
  };
  const rows = (s: number) => rowsOf(b, s).filter((t) => b.selected[t]);
  return b.rewards.map((r, s) => (o.beta === 0 ? r : r - o.beta * sum(rows(s).map(estimate))));
}
