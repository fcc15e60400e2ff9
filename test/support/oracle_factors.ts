// The factor of a surrogate: what masks and corrections make of it. Nothing here is differentiated, so these are plain numbers.
import type { Decisions, Sequence, Settings, Token } from './oracle_types.js';

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const clamp = (v: number, low: number, high: number): number => Math.min(Math.max(v, low), high);
const size = (t: Token): number => Math.abs(t.old) + (Number.isNaN(t.sampler) ? 0 : Math.abs(t.sampler));

function bounded(logRatio: number, terms: number, mode: string, c: Settings, decisions: Decisions): number {
  const [low, high] = [c.samplerImportanceSamplingClipMin, c.samplerImportanceSamplingClipMax];
  const ratio = Math.exp(logRatio);
  if (mode.endsWith('truncate')) return clamp(ratio, low, high);
  if (low > 0) decisions.near(logRatio, Math.log(low), terms);
  decisions.near(logRatio, Math.log(high), terms);
  return ratio >= low && ratio <= high ? ratio : 0;
}

/** Importance of the trainer's old policy against the rollout engine's (truncated: TRL's vLLM correction; masked: arXiv:2510.18855). */
export function samplerWeights(sequence: Sequence, c: Settings, decisions: Decisions): number[] {
  const mode = c.samplerImportanceSampling;
  if (mode === undefined) return sequence.map(() => 1);
  const d = sequence.map((t) => (Number.isNaN(t.sampler) ? 0 : t.old - t.sampler));
  if (mode.startsWith('token')) return sequence.map((t, k) => bounded(d[k]!, size(t), mode, c, decisions));
  const whole = bounded(sum(d), sum(sequence.map(size)), mode, c, decisions);
  return sequence.map(() => whole);
}

/** DeepSeek-V3.2 (arXiv:2512.02556): sequences with a negative advantage that the policy has left too far are dropped. */
export function offPolicyMask(sequence: Sequence, c: Settings, decisions: Decisions): number[] {
  const threshold = c.offPolicyMaskThreshold;
  if (threshold === undefined || sequence.length === 0) return sequence.map(() => 1);
  const distances = sequence.map((t) => (Number.isNaN(t.sampler) ? 0 : t.sampler - t.at));
  const mean = sum(distances) / sequence.length;
  const terms = sum(sequence.map((t) => Math.abs(t.at) + Math.abs(Number.isNaN(t.sampler) ? 0 : t.sampler))) / sequence.length;
  if (sequence.some((t) => t.advantage < 0)) decisions.near(mean, threshold, terms);
  return sequence.map((t) => Number(t.advantage >= 0 || mean <= threshold));
}

/** Linear interpolation between neighbours in order; a rank within 1e-6 of an integer is that integer. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const exact = q * (sorted.length - 1);
  const rank = Math.abs(exact - Math.round(exact)) < 1e-6 ? Math.round(exact) : exact;
  const below = sorted[Math.floor(rank)]!;
  return below + (rank - Math.floor(rank)) * (sorted[Math.ceil(rank)]! - below);
}

/** "80/20" (arXiv:2506.01939): only tokens of high entropy learn. */
export function entropyMask(tokens: readonly Token[], c: Settings, decisions: Decisions): Map<Token, number> {
  const all = tokens.map((t) => t.entropyAt);
  const byRank = c.entropyThreshold === undefined;
  if (tokens.length === 0 || (byRank && c.topEntropyQuantile >= 1)) return new Map(tokens.map((t) => [t, 1]));
  const threshold = byRank ? quantile(all, 1 - c.topEntropyQuantile) : c.entropyThreshold!;
  let self = byRank; // a threshold that is one of the entropies is no boundary for that token
  for (const t of tokens) {
    if (self && t.entropyAt === threshold) self = false;
    else if (!(t.entropyAt === 0 && threshold === 0)) decisions.near(t.entropyAt, threshold, threshold);
  }
  return new Map(tokens.map((t) => [t, Number(t.entropyAt >= threshold)]));
}
