// The surrogate of one token for every lossType, as a function of the differentiated log-probs (and of their values, for what the
// papers detach). Sign: it is minimised.
import { dppoKeeps } from './oracle_selection.js';
import type { Decisions, Sequence, Settings, Token } from './oracle_types.js';
import { smaller, type Tape, type Var } from './tape.js';

export const LIMIT = 40; // log-ratios saturate (documented)

/** What a surrogate may depend on beside its own token. */
export interface Context {
  tape: Tape;
  settings: Settings;
  decisions: Decisions;
  sequence: Sequence;
  /** Importance ratio of the token, at the level that was asked for. */
  ratio: Var;
  /** The same, detached. */
  ratioAt: number;
  /** Sampler weights of the sequence's tokens, which vespo takes in. */
  samplerWeights: readonly number[];
  /** Tokens of the sequence that the entropy mask keeps, which gmpo averages over. */
  kept: Sequence;
  /** clip_cov, kl_cov: chosen by their covariance. */
  chosen: boolean;
}

export interface Surrogate {
  value: Var;
  clippedLow: boolean;
  clippedHigh: boolean;
}

const unclipped = (value: Var): Surrogate => ({ value, clippedLow: false, clippedHigh: false });

/** How near the log-ratio of this token is to where a ratio of `bound` lies: a kink of the loss. */
function kink(t: Token, { ratio, decisions }: Context, bound: number): void {
  if (bound > 0 && bound < Infinity) decisions.near(Math.log(ratio.value), Math.log(bound), Math.abs(t.at));
}

/** PPO's pessimistic clip, arXiv:1707.06347, with DAPO's two bounds (2503.14476), INTELLECT-2's delta (2505.07291) and dual clip (1912.09729). */
function clip(t: Token, context: Context): Surrogate {
  const { ratio: r, settings: c } = context;
  const A = t.advantage;
  const [low, high] = [1 - c.epsilon, 1 + c.epsilonHigh];
  for (const bound of [low, high, c.delta, ...(c.dualClip === undefined ? [] : [c.dualClip])]) kink(t, context, bound);
  const b = r.atMost(c.delta);
  const pessimistic = smaller(b.times(A), r.atLeast(low).atMost(high).times(A));
  const kept = c.dualClip !== undefined && A < 0 ? pessimistic.atLeast(c.dualClip * A) : pessimistic;
  return { value: kept.times(-1), clippedLow: b.value < low && A < 0, clippedHigh: b.value > high && A > 0 };
}

/** MiniMax-M1's CISPO, arXiv:2506.13585. */
function cispo(t: Token, context: Context): Surrogate {
  const { epsilonHigh } = context.settings;
  const r = context.ratioAt;
  kink(t, context, epsilonHigh);
  return { value: t.x.times(-Math.min(r, epsilonHigh) * t.advantage), clippedLow: false, clippedHigh: r > epsilonHigh && t.advantage > 0 };
}

/** SAPO's soft gate, arXiv:2511.20347. */
function sapo(t: Token, { ratio, settings: c }: Context): Surrogate {
  const tau = t.advantage > 0 ? c.sapoTemperaturePos : c.sapoTemperatureNeg;
  return unclipped(
    ratio
      .minus(1)
      .times(tau)
      .sigmoid()
      .times((-4 / tau) * t.advantage),
  );
}

/** VESPO, arXiv:2602.10693, with TRL's bounds. */
function vespo(t: Token, { sequence, samplerWeights, settings: c }: Context): Surrogate {
  const between = (v: number, low: number, high: number) => Math.min(Math.max(v, low), high);
  const least = Math.log(1e-8);
  const ratios = sequence.reduce((s, u) => s + between(u.at - u.old, -20, 20), 0);
  const weights = samplerWeights.reduce((s, w) => s + between(Math.log(w), least, 20), 0);
  const q = between(ratios + weights, least, 20);
  const [k, given] = t.advantage >= 0 ? [c.vespoKPos, c.vespoLambdaPos] : [c.vespoKNeg, c.vespoLambdaNeg];
  const lambda = Math.max(given, 1e-4);
  const phi = Math.exp(lambda + k * q - lambda * Math.exp(q));
  return unclipped(t.x.times(-phi * t.advantage));
}

/** GMPO's geometric mean, arXiv:2507.20673; every token is clipped on the side of its own advantage. */
function gmpo(t: Token, { tape, kept, settings: c, decisions }: Context): Surrogate {
  const A = t.advantage;
  const clipped = kept.map((u) => {
    for (const bound of [-c.epsilon, c.epsilonHigh]) decisions.near(u.w.value, bound, Math.abs(u.at));
    return u.advantage > 0 ? u.w.atMost(c.epsilonHigh) : u.w.atLeast(-c.epsilon);
  });
  const mean = tape.sum(clipped).times(1 / Math.max(1, kept.length));
  const value = mean.atMost(LIMIT).exp().times(-A);
  const w = t.w.value;
  return { value, clippedLow: w < -c.epsilon && A < 0, clippedHigh: w > c.epsilonHigh && A > 0 };
}

/** DPPO, arXiv:2602.04879. */
function dppo(t: Token, { ratioAt, settings: c, decisions }: Context): Surrogate {
  const keeps = dppoKeeps(t, c, decisions);
  const weight = keeps ? Math.min(ratioAt, c.dppoRatioMax) : 0;
  return { value: t.x.times(-weight * t.advantage), clippedLow: !keeps && t.advantage <= 0, clippedHigh: !keeps && t.advantage > 0 };
}

/** Clip-Cov, arXiv:2505.22617. */
function clipCov(t: Token, context: Context): Surrogate {
  const s = clip(t, context);
  return context.chosen ? { ...s, value: s.value.times(0) } : s;
}

/** KL-Cov, arXiv:2505.22617. */
function klCov(t: Token, { ratio, chosen, settings: c, decisions }: Context): Surrogate {
  const plain = ratio.times(-t.advantage);
  if (!chosen) return unclipped(plain);
  if (t.old !== t.at) decisions.near(t.w.value, 0, Math.abs(t.at));
  return unclipped(plain.plus(t.w.abs().times(c.klCovCoef)));
}

export function surrogate(t: Token, context: Context): Surrogate {
  switch (context.settings.lossType) {
    case 'cispo':
      return cispo(t, context);
    case 'sapo':
      return sapo(t, context);
    case 'vespo':
      return vespo(t, context);
    case 'gmpo':
      return gmpo(t, context);
    case 'reinforce':
      return unclipped(t.x.times(-t.advantage));
    case 'dppo':
      return dppo(t, context);
    case 'clip_cov':
      return clipCov(t, context);
    case 'kl_cov':
      return klCov(t, context);
    default:
      return clip(t, context);
  }
}

/** Importance ratios of a sequence: by token (arXiv:2402.03300), GSPO's by sequence and GSPO-token's (2507.18071). */
export function ratios(
  tape: Tape,
  sequence: Sequence,
  level: Settings['importanceSamplingLevel'],
  decisions: Decisions,
): { live: Var; at: number }[] {
  const meanAt = sequence.reduce((s, t) => s + t.at - t.old, 0) / Math.max(1, sequence.length);
  const mean = tape.sum(sequence.map((t) => t.w)).times(1 / Math.max(1, sequence.length));
  return sequence.map((t) => {
    const u = { token: t.w, sequence: mean, sequence_token: t.w.minus(t.at - t.old).plus(meanAt) }[level];
    const at = level === 'token' ? t.at - t.old : meanAt;
    decisions.near(u.value, LIMIT, Math.abs(t.at));
    return { live: u.atMost(LIMIT).exp(), at: Math.exp(Math.min(at, LIMIT)) };
  });
}

function estimateKl(x: Var, ref: number, estimator: Settings['klEstimator']): Var {
  const d = x.times(-1).plus(ref).atMost(LIMIT);
  if (estimator === 'k1') return d.times(-1);
  return estimator === 'k2' ? d.times(d).times(0.5) : d.expm1().minus(d);
}

/** Schulman's estimators of KL(policy || reference), and three ways to differentiate them (arXiv:2506.09477, 2512.21852). */
export function klOf(tape: Tape, t: Token, ratio: Var, c: Settings, decisions: Decisions): Var {
  decisions.near(t.ref - t.at, LIMIT, Math.abs(t.at));
  const live = (estimator: Settings['klEstimator']) => estimateKl(t.x, t.ref, estimator);
  const frozen = (estimator: Settings['klEstimator']) => estimateKl(tape.leaf(t.at), t.ref, estimator);
  const made = {
    estimator: () => live(c.klEstimator),
    straight_through: () => live('k2').minus(frozen('k2')).plus(frozen(c.klEstimator)),
    score_function: () => live(c.klEstimator).times(t.x.minus(t.at).exp()),
  }[c.klGradient]();
  return c.useBiasCorrectionKl ? made.times(ratio) : made;
}
