// What the ranks' parts of a step say together: sums of losses, means weighted by what they are means over.
import type { AccumulateResult, PairResult, ValueResult } from '../engine/training.js';

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

/** The mean over everything, of means over `counts` things; parts without any have no say. */
function mean(values: number[], counts: number[]): number {
  const total = sum(counts);
  return total === 0 ? values[0]! : sum(values.map((v, i) => (counts[i] ? v * counts[i] : 0))) / total;
}

export function combineAccumulated(parts: AccumulateResult[]): AccumulateResult {
  if (parts.length === 1) return parts[0]!;
  const counts = parts.map((p) => p.tokens);
  const said = parts.filter((p) => p.tokens > 0);
  const over = (of: (p: AccumulateResult) => number) => mean(parts.map(of), counts);
  const { kl } = parts[0]!;
  return {
    loss: sum(parts.map((p) => p.loss)),
    tokens: sum(counts),
    sequences: sum(parts.map((p) => p.sequences)),
    ...(kl === undefined ? {} : { kl: over((p) => p.kl!) }),
    entropy: over((p) => p.entropy),
    clipRatio: { low: over((p) => p.clipRatio.low), high: over((p) => p.clipRatio.high), region: over((p) => p.clipRatio.region) },
    ratio: {
      min: said.length ? Math.min(...said.map((p) => p.ratio.min)) : 1,
      mean: over((p) => p.ratio.mean),
      max: said.length ? Math.max(...said.map((p) => p.ratio.max)) : 1,
    },
    meanLogp: over((p) => p.meanLogp),
  };
}

export function combinePairs(parts: PairResult[]): PairResult {
  if (parts.length === 1) return parts[0]!;
  const counts = parts.map((p) => p.pairs);
  const all = (of: (p: PairResult) => Float32Array) => Float32Array.from(parts.flatMap((p) => [...of(p)]));
  return {
    loss: sum(parts.map((p) => p.loss)),
    pairs: sum(counts),
    accuracy: mean(
      parts.map((p) => p.accuracy),
      counts,
    ),
    margin: mean(
      parts.map((p) => p.margin),
      counts,
    ),
    chosen: all((p) => p.chosen),
    rejected: all((p) => p.rejected),
  };
}

export function combineValues(parts: ValueResult[]): ValueResult {
  if (parts.length === 1) return parts[0]!;
  const counts = parts.map((p) => p.tokens);
  const over = (of: (p: ValueResult) => number) => mean(parts.map(of), counts);
  const meanReturn = over((p) => p.meanReturn);
  return {
    loss: sum(parts.map((p) => p.loss)),
    tokens: sum(counts),
    clipFraction: over((p) => p.clipFraction),
    meanValue: over((p) => p.meanValue),
    meanReturn,
    meanError: over((p) => p.meanError),
    meanSquaredError: over((p) => p.meanSquaredError),
    returnVariance: Math.max(0, over((p) => p.returnVariance + p.meanReturn ** 2) - meanReturn ** 2),
    values: Float32Array.from(parts.flatMap((p) => [...p.values])),
  };
}
