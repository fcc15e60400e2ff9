// From log-probs and entropies to the loss and its derivatives by both, in float64: docs/losses.md, put together.
import { entropyMask, offPolicyMask, samplerWeights } from './oracle_factors.js';
import { drawnCovariance, largestCovariance } from './oracle_selection.js';
import { klOf, ratios, surrogate } from './oracle_surrogates.js';
import { Decisions, settings, type OracleConfig, type PolicyInput, type Sequence, type Settings, type Token } from './oracle_types.js';
import { Tape, type Var } from './tape.js';

/** Values for everything that is not differentiated; otherwise those of the input. */
export interface Frozen {
  logps: ArrayLike<number>;
  entropies: ArrayLike<number>;
}

function sequencesOf(b: PolicyInput, tape: Tape, frozen: Frozen): Sequence[] {
  const token = (position: number): Token => {
    const x = tape.leaf(b.logps[position]!);
    const at = frozen.logps[position]!;
    const old = b.oldLogps?.[position] ?? at; // omitted: on policy
    return {
      position,
      advantage: b.advantages[position]!,
      x,
      at,
      old,
      ref: b.refLogps?.[position] ?? NaN,
      sampler: b.samplerLogps ? b.samplerLogps[position]! : old,
      entropy: tape.leaf(b.entropies[position]!),
      entropyAt: frozen.entropies[position]!,
      w: x.minus(old),
    };
  };
  return Array.from({ length: b.offsets.length - 1 }, (_, i) => {
    const positions = Array.from({ length: b.offsets[i + 1]! - b.offsets[i]! }, (_, k) => b.offsets[i]! + k);
    return positions.filter((p) => b.selected[p]).map(token);
  });
}

/** The weight of a token of this sequence in the total. */
function weight(sequence: Sequence, all: readonly Sequence[], c: Settings): number {
  const tokens = all.reduce((n, s) => n + s.length, 0);
  const counted = c.emptySequences === 'count' ? all.length : all.filter((s) => s.length > 0).length;
  const over = (n: number) => 1 / (c.normalizer ?? Math.max(1, n));
  switch (c.lossType) {
    case 'grpo': // arXiv:2402.03300
    case 'sapo':
    case 'gmpo':
      return over(counted) / sequence.length;
    case 'luspo': // arXiv:2602.05261: longer sequences count for more
      return over(counted);
    case 'dr_grpo': // arXiv:2503.20783
      return over(counted * c.maxCompletionLength);
    default: // arXiv:2503.14476
      return over(tokens);
  }
}

function chosenTokens(tokens: readonly Token[], c: Settings, decisions: Decisions): Set<Token> {
  if (c.lossType === 'clip_cov') return drawnCovariance(tokens, c, decisions);
  return c.lossType === 'kl_cov' ? largestCovariance(tokens, c, decisions) : new Set();
}

export interface Sums {
  kl: number;
  /** Of the terms of kl. */
  klSize: number;
  entropy: number;
  ratio: number;
  low: number;
  high: number;
  min: number;
  max: number;
}

/** What a batch's statistics say about its tokens. */
interface Batch {
  tape: Tape;
  settings: Settings;
  decisions: Decisions;
  sequences: readonly Sequence[];
  kept: Map<Token, number>;
  chosen: Set<Token>;
  sums: Sums;
}

/** The terms of one sequence in the total. */
function sequenceTerms(sequence: Sequence, batch: Batch): Var[] {
  const { tape, settings: c, decisions, sums } = batch;
  const r = ratios(tape, sequence, c.importanceSamplingLevel, decisions);
  const sampler = samplerWeights(sequence, c, decisions);
  const onPolicy = offPolicyMask(sequence, c, decisions);
  const kept = sequence.filter((t) => batch.kept.get(t));
  const each = weight(sequence, batch.sequences, c);
  const terms: Var[] = [];
  sequence.forEach((t, k) => {
    const { live: ratio, at: ratioAt } = r[k]!;
    const own = { ratio, ratioAt, chosen: batch.chosen.has(t) };
    const s = surrogate(t, { tape, settings: c, decisions, sequence, samplerWeights: sampler, kept, ...own });
    const entropyFactor = c.lossType === 'gmpo' ? 1 : batch.kept.get(t)!;
    const factor = onPolicy[k]! * entropyFactor * (c.lossType === 'vespo' ? 1 : sampler[k]!);
    terms.push(s.value.times(each * factor));
    sums.low += Number(s.clippedLow);
    sums.high += Number(s.clippedHigh);
    sums.ratio += ratio.value;
    sums.min = Math.min(sums.min, ratio.value);
    sums.max = Math.max(sums.max, ratio.value);
    sums.entropy += t.entropy.value;
    if (c.beta === 0) return;
    const kl = klOf(tape, t, ratio, c, decisions);
    terms.push(kl.times(c.beta * each));
    sums.kl += kl.value;
    sums.klSize += kl.size;
  });
  return terms;
}

/** - entropyCoef times the mean over the tokens that the entropy mask keeps. */
function entropyTerms(tokens: readonly Token[], kept: Map<Token, number>, c: Settings): Var[] {
  if (c.entropyCoef === 0) return [];
  const counted = tokens.filter((t) => kept.get(t));
  return counted.map((t) => t.entropy.times(-c.entropyCoef / (c.entropyNormalizer ?? Math.max(1, counted.length))));
}

export function policyOracle(b: PolicyInput, config: OracleConfig, frozen: Frozen = b) {
  const [tape, decisions, c] = [new Tape(), new Decisions(), settings(config)];
  const sequences = sequencesOf(b, tape, frozen);
  const tokens = sequences.flat();
  const kept = entropyMask(tokens, c, decisions);
  const chosen = chosenTokens(tokens, c, decisions);
  const sums: Sums = { kl: 0, klSize: 0, entropy: 0, ratio: 0, low: 0, high: 0, min: Infinity, max: -Infinity };
  const batch: Batch = { tape, settings: c, decisions, sequences, kept, chosen, sums };
  const parts = sequences.map((s) => tape.sum(sequenceTerms(s, batch)));
  const total = tape.sum([...parts, ...entropyTerms(tokens, kept, c)]);
  const { slope, amount } = tape.backward(total);
  const N = b.selected.length;
  const made = { gradLogps: new Float64Array(N), gradEntropies: new Float64Array(N), amounts: new Float64Array(N) };
  for (const t of tokens) {
    made.gradLogps[t.position] = slope[t.x.index]!;
    made.gradEntropies[t.position] = slope[t.entropy.index]!;
    made.amounts[t.position] = amount[t.x.index]!;
  }
  return {
    ...made,
    /** Positions that a covariance chose. */
    chosen: [...chosen].map((t) => t.position).sort((a, b) => a - b),
    loss: total.value,
    /** Of every sequence, without the entropy bonus. */
    parts: parts.map((p) => p.value),
    /** Sum of the absolute terms of the loss; `amounts`: of those of gradLogps. */
    terms: total.size,
    tokens: tokens.length,
    sums,
    margin: decisions.margin,
  };
}

/** The how-many-th selected token of its sequence every position is; -1 where none is selected. */
function ranksOf(b: PolicyInput): number[] {
  let [sequence, next] = [0, 0];
  return b.selected.map((selected, t) => {
    while (t >= b.offsets[sequence + 1]!) [sequence, next] = [sequence + 1, 0];
    return selected ? next++ : -1;
  });
}

/**
 * What relative errors of the log-probs (of at least 1) do, detached parts included. `gradLogps`: the terms of g_t, plus the sum over s of
 * |d g_t / d x_s| max(1, |x_s|). `loss`: the sum over s of |d loss / d x_s| max(1, |x_s|). By differences: tokens of different sequences
 * do not meet, so one of each moves at a time.
 */
export function conditioning(b: PolicyInput, config: OracleConfig, base: ReturnType<typeof policyOracle>) {
  const step = 1e-7;
  const gradLogps = base.amounts.slice();
  const ranks = ranksOf(b);
  let loss = 0;
  for (let rank = 0; rank <= Math.max(...ranks, -1); ++rank) {
    const logps = Float64Array.from(b.logps, (x, t) => (ranks[t] === rank ? x + step * Math.max(1, Math.abs(x)) : x));
    const moved = policyOracle({ ...b, logps }, config);
    moved.gradLogps.forEach((g, t) => (gradLogps[t]! += Math.abs(g - base.gradLogps[t]!) / step));
    moved.parts.forEach((part, i) => (loss += Math.abs(part - base.parts[i]!) / step));
  }
  return { gradLogps, loss };
}
