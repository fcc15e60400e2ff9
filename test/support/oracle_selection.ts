// Decisions about single tokens: those that the covariance chooses (arXiv:2505.22617) and those that DPPO keeps (arXiv:2602.04879).
import type { Decisions, Settings, Token } from './oracle_types.js';

interface Covariance {
  token: Token;
  value: number;
  /** Size of the numbers it is made of. */
  size: number;
  /** An advantage equal to the mean, or certain tokens only: the covariance is 0 however the means are rounded. */
  zero: boolean;
}

function covariances(tokens: readonly Token[]): Covariance[] {
  const mean = (of: (t: Token) => number) => tokens.reduce((s, t) => s + of(t), 0) / tokens.length;
  const [A, x] = [mean((t) => t.advantage), mean((t) => t.at)];
  const size = mean((t) => Math.max(1, Math.abs(t.at)));
  return tokens.map((token) => ({
    token,
    value: (token.advantage - A) * (token.at - x),
    size: (Math.abs(token.advantage) + Math.abs(A)) * (Math.max(1, Math.abs(token.at)) + size),
    zero: token.advantage === A || (token.at === 0 && x === 0),
  }));
}

const count = (share: number, tokens: readonly Token[]): number => Math.max(1, Math.floor(share * tokens.length));

/** kl_cov: the tokens of largest covariance. */
export function largestCovariance(tokens: readonly Token[], c: Settings, decisions: Decisions): Set<Token> {
  const order = covariances(tokens).sort((a, b) => b.value - a.value || a.token.position - b.token.position);
  const k = Math.min(count(c.klCovRatio, tokens), order.length);
  const [last, next] = [order[k - 1], order[k]];
  if (last && next && !(last.zero && next.zero)) decisions.near((last.value - next.value) / Math.max(last.size, next.size, 1e-300), 0, 1);
  return new Set(order.slice(0, k).map((o) => o.token));
}

/** The order in which clip_cov draws. */
export function hash(seed: number, position: number): number {
  let h = (position + Math.imul(0x9e3779b9, seed + 1)) >>> 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d) >>> 0;
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

/** clip_cov: some of the tokens that are not clipped and whose covariance lies between the bounds. */
export function drawnCovariance(tokens: readonly Token[], c: Settings, decisions: Decisions): Set<Token> {
  const inside = covariances(tokens).filter(({ token, value, size }) => {
    const ratio = Math.exp(Math.min(token.at - token.old, 40));
    const clipped = Math.min(Math.max(ratio, 1 - c.epsilon), 1 + c.epsilonHigh);
    if (-clipped * token.advantage > -ratio * token.advantage) return false;
    for (const bound of [c.clipCovLow, c.clipCovHigh]) decisions.near(value, bound, size);
    return value > c.clipCovLow && value < c.clipCovHigh;
  });
  const key = (t: Token) => hash(c.clipCovSeed, t.position);
  const order = inside.map((o) => o.token).sort((a, b) => key(a) - key(b) || a.position - b.position);
  return new Set(order.slice(0, count(c.clipCovRatio, tokens)));
}

/** DPPO: the update is kept unless it moves a probability further away than the divergence of the two-outcome distributions allows. */
export function dppoKeeps(t: Token, c: Settings, decisions: Decisions): boolean {
  const [p, old] = [Math.exp(t.at), Math.exp(t.old)];
  const up = t.advantage > 0;
  const bound = up ? c.epsilonHigh : c.epsilon;
  const away = up ? p - old : old - p;
  // `room` is how much is left before the token is dropped
  let room = bound - away;
  if (c.dppoDivergence === 'kl') {
    const divergence = old * (t.old - t.at) + (1 - old) * Math.log((1 - old + 1e-8) / (1 - p + 1e-8));
    room = Math.max(bound - divergence, -away);
  }
  decisions.near(room, 0, Math.max(1, Math.abs(t.at), Math.abs(t.old)));
  return room >= 0;
}
