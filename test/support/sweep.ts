// One case of the loss against the float64 oracle, on whatever backend the ops run: fused, in place and not, and in three stages.
import { grpoLoss, policyLoss, selectiveLogp, selectiveLogpBackward } from '../../lib/index.js';
import { makeCase, type Case } from './cases.js';
import { fromBits, ulp } from './half.js';
import { grpoOracle } from './oracle.js';

type Truth = ReturnType<typeof grpoOracle>;

function near(what: string, got: number, want: number, tolerance: number): void {
  const same = Object.is(got, want) || Math.abs(got - want) <= tolerance * Math.max(1, Math.abs(want));
  if (!same) throw new Error(`${what}: got ${got}, want ${want}`);
}

/** A log-prob's own rounding moves a derivative whose terms cancel: a few fp32 ulps of the terms are allowed. */
const CANCELLED = 2e-6;

function checkGradient(c: Case, truth: Truth, gradient: ArrayLike<number>, start: number[]): void {
  const largest = truth.grad.flat().reduce((m, g) => Math.max(m, Math.abs(g)), 0);
  const { temperature } = c.oracleConfig;
  let [error, norm, slack] = [0, 0, 0];
  truth.grad.forEach((row, t) => {
    const floor = (CANCELLED * truth.scale[t]!) / temperature;
    slack += floor ** 2;
    row.forEach((want, j) => {
      const got = fromBits(c.dtype, gradient[start[t]! + j]!);
      if (!c.oracleBatch.selected[t] && !Object.is(got, 0)) throw new Error(`row ${t} is behind the mask, gradient ${got}`);
      const tolerance = c.dtype === 'float32' ? 2e-5 * largest : ulp(c.dtype, want) + 1e-6 * largest;
      if (!(Math.abs(got - want) <= tolerance + floor)) throw new Error(`gradient [${t}, ${j}]: got ${got}, want ${want}`);
      error += (got - want) ** 2;
      norm += want ** 2;
    });
  });
  if (c.dtype === 'float32' && !(Math.sqrt(error) <= 1e-5 * Math.sqrt(norm) + Math.sqrt(slack) + 1e-30))
    throw new Error(`gradient: relative L2 ${Math.sqrt(error / norm)}`);
}

function checkMetrics(c: Case, truth: Truth, m: ReturnType<typeof grpoLoss>['metrics']): void {
  const mean = (sum: number) => (truth.tokens ? sum / truth.tokens : 0);
  near('metrics.tokens', m.tokens, truth.tokens, 0);
  near('metrics.entropy', m.entropy!, mean(truth.sums.entropy), 2e-5);
  near('metrics.ratio.mean', m.ratio.mean, mean(truth.sums.ratio), 1e-4);
  near('metrics.ratio.min', m.ratio.min, truth.tokens ? truth.sums.min : 0, 1e-4);
  near('metrics.ratio.max', m.ratio.max, truth.tokens ? truth.sums.max : 0, 1e-4);
  if (c.oracleConfig.beta > 0) near('metrics.kl', m.kl!, mean(truth.sums.kl), 1e-4);
  else if ('kl' in m) throw new Error('kl without beta');
  near('clipRatio.low', m.clipRatio.low, mean(truth.sums.low), 1e-12);
  near('clipRatio.high', m.clipRatio.high, mean(truth.sums.high), 1e-12);
  near('clipRatio.region', m.clipRatio.region, mean(truth.sums.low + truth.sums.high), 1e-12);
}

/** Loss tolerance: fp32 log-probs through exp() and the weights; relative to the largest token loss involved. */
function checkFused(c: Case, truth: Truth, inPlace: boolean): void {
  const batch = { ...c.batch, logits: c.batch.logits.slice() };
  const untouched = batch.logits.slice();
  const out = grpoLoss(batch, { ...c.config, inPlace });
  near('loss', out.loss, truth.loss, 1e-5);
  truth.logps.forEach((want, t) => near(`logps[${t}]`, out.logps[t]!, want, 2e-5));
  truth.entropies.forEach((want, t) => near(`entropies[${t}]`, out.entropies![t]!, want, 2e-5));
  if (out.logps.some((v) => v > 0)) throw new Error('logp > 0');
  checkMetrics(c, truth, out.metrics);
  const V = c.batch.vocabSize;
  checkGradient(c, truth, out.gradLogits, inPlace ? c.start : c.start.map((_, t) => t * V));
  if (inPlace !== (out.gradLogits === batch.logits)) throw new Error('inPlace');
  const inRow = new Uint8Array(batch.logits.length);
  if (inPlace) c.start.forEach((s) => inRow.fill(1, s, s + V));
  batch.logits.forEach((v, i) => {
    if (!inRow[i] && !Object.is(v, untouched[i])) throw new Error(`element ${i} outside the rows was written`);
  });
}

/** The same in three stages. */
function checkStages(c: Case, truth: Truth): void {
  const { logits, dtype, vocabSize, targets, rowStride, sequenceStride, offsets, completionLength } = c.batch;
  const { temperature, maskTruncatedCompletions, ...config } = c.config;
  const mask = Uint8Array.from(c.oracleBatch.selected, Number);
  const rows = {
    logits: logits.slice(),
    dtype,
    vocabSize,
    targets,
    rowStride,
    sequenceStride,
    offsets,
    completionLength,
    temperature,
    mask,
  };
  const forward = selectiveLogp({ ...rows, entropy: true });
  const { oldLogps, refLogps, advantages, truncated } = c.batch;
  const { logps, entropies } = { logps: forward.logps, entropies: forward.entropies! };
  const batch = { logps, entropies, oldLogps, refLogps, advantages: advantages!, mask: c.batch.mask, truncated, offsets, completionLength };
  const middle = policyLoss(batch, { ...config, maskTruncatedCompletions });
  near('policyLoss', middle.loss, truth.loss, 2e-5);
  const { gradLogps, gradEntropies } = middle;
  const { gradLogits } = selectiveLogpBackward({ ...rows, lse: forward.lse, gradLogps, gradEntropies });
  if (c.dtype === 'float32') checkGradientLoosely(truth, gradLogits, c.start);
}

/** Stored fp32 log-probs cost up to |logp| 2^-24 in the ratio. */
function checkGradientLoosely(truth: Truth, gradient: ArrayLike<number>, start: number[]): void {
  const largest = truth.grad.flat().reduce((m, g) => Math.max(m, Math.abs(g)), 0);
  truth.grad.forEach((row, t) =>
    row.forEach((want, j) => near(`staged gradient [${t}, ${j}]`, gradient[start[t]! + j]! / (largest || 1), want / (largest || 1), 1e-4)),
  );
}

/** The seeds first ... last; a failure names its seed. */
export function sweep(backend: string, first: number, last: number): void {
  for (let seed = first; seed <= last; ++seed) {
    const c = makeCase(seed);
    try {
      const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
      checkFused(c, truth, true);
      checkFused(c, truth, false);
      checkStages(c, truth);
    } catch (error) {
      const { logits, ...small } = c.batch;
      throw new Error(
        `seed ${seed}, ${backend}: ${(error as Error).message}\n${JSON.stringify({ ...small, ...c.config, size: logits.length })}`,
      );
    }
  }
}
