// Statistics of all scores that a run has seen.
import { FusedGrpoError } from '../errors.js';

interface Moments {
  count: number;
  mean: number;
  /** Sum of squared distances from the mean. */
  squares: number;
}

/** Mean and variance of everything seen, batch after batch (Chan, Golub and LeVeque 1979, eq. 2.1). */
export class RunningMoments {
  private moments: Moments = { count: 0, mean: 0, squares: 0 };

  get state(): unknown {
    return { ...this.moments };
  }
  set state(value: unknown) {
    const { count, mean, squares } = (value ?? {}) as Partial<Moments>;
    if (![count, mean, squares].every((v) => typeof v === 'number' && Number.isFinite(v)))
      throw new FusedGrpoError('ERR_IO', 'The checkpoint has no statistics of the reward model (transform: normalize)');
    this.moments = { count: count!, mean: mean!, squares: squares! };
  }

  /** Takes the scores in, and returns (score - mean) / std (dividing by count - 1; 1 while all scores were equal). */
  normalize(scores: Float64Array): Float64Array {
    const n = scores.length;
    if (n === 0) return scores;
    const mean = scores.reduce((a, b) => a + b, 0) / n;
    const squares = scores.reduce((a, s) => a + (s - mean) ** 2, 0);
    const m = this.moments;
    const [count, apart] = [m.count + n, mean - m.mean];
    this.moments = { count, mean: m.mean + (apart * n) / count, squares: m.squares + squares + (apart * apart * m.count * n) / count };
    const std = Math.sqrt(this.moments.squares / Math.max(1, count - 1)) || 1;
    return scores.map((s) => (s - this.moments.mean) / std);
  }
}
