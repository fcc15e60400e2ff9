// Cases of the loss against the float64 oracle, on whatever backend the ops run: fused, in place and not, and in three stages.
import { grpoLoss, policyLoss, selectiveLogp, selectiveLogpBackward, type SequenceLayout } from '../../lib/index.js';
import { makeCase, type Case } from './cases.js';
import { fromBits, ulp } from './half.js';
import { grpoOracle } from './oracle.js';

// jest looks every global up in its sandbox, slowly: these are used for every logit
const { abs, max, sqrt } = Math;
const { is } = Object;

type Truth = ReturnType<typeof grpoOracle>;

/** Cases in which fp32 may decide a discontinuous question otherwise than fp64 are not compared. */
export const NEAR_TIE = 1e-5;
/**
 * A log-prob in fp32 is off by half an ulp each for the scaled difference to the maximum (twice: 1 / temperature is rounded too), the
 * logarithm of the sum and the result, of numbers no larger than max(1, |logp|). The oracle's `scale` says what that, and as much in the
 * terms of the derivative, comes to in the gradient; without cancelling terms it is far below the 1e-5 that is asked anyway.
 */
const ROUNDING = 4 * 2 ** -24;
/** The smallest normal fp32 number. */
const UNDERFLOW = 2 ** -126;

function fail(what: string, got: unknown, want: unknown): never {
  throw new Error(`${what}: got ${got}, want ${want}`);
}

function near(what: string, got: number, want: number, tolerance: number, size = 1): void {
  if (!is(got, want) && !(abs(got - want) <= tolerance * max(size, abs(want)))) fail(what, got, want);
}

function allNear(what: string, got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number): void {
  if (got.length !== want.length) fail(`${what}.length`, got.length, want.length);
  for (let t = 0; t < got.length; ++t) near(`${what}[${t}]`, got[t]!, want[t]!, tolerance);
}

function checkGradient(c: Case, truth: Truth, gradient: ArrayLike<number>, start: number[]): void {
  const largest = truth.grad.reduce((m, row) => row.reduce((a, g) => max(a, abs(g)), m), 0);
  const { temperature } = c.oracleConfig;
  const wide = c.dtype === 'float32';
  let [error, norm, slack] = [0, 0, 0];
  truth.grad.forEach((row, t) => {
    const floor = (ROUNDING * truth.scale[t]!) / temperature + UNDERFLOW;
    slack += floor ** 2;
    row.forEach((want, j) => {
      const got = fromBits(c.dtype, gradient[start[t]! + j]!);
      if (!c.oracleBatch.selected[t] && !is(got, 0)) fail(`gradient [${t}, ${j}] behind the mask`, got, 0);
      const tolerance = wide ? 2e-5 * largest : ulp(c.dtype, want) + 1e-6 * largest;
      if (!(abs(got - want) <= tolerance + floor)) fail(`gradient [${t}, ${j}]`, got, want);
      error += (got - want) ** 2;
      norm += want ** 2;
    });
  });
  if (wide && !(sqrt(error) <= 1e-5 * sqrt(norm) + sqrt(slack) + 1e-30))
    fail('gradient: relative L2', sqrt(error / norm), `at most 1e-5 (slack ${sqrt(slack / norm)})`);
}

function checkMetrics(c: Case, truth: Truth, m: ReturnType<typeof grpoLoss>['metrics']): void {
  const mean = (sum: number) => (truth.tokens ? sum / truth.tokens : 0);
  near('metrics.tokens', m.tokens, truth.tokens, 0);
  near('metrics.entropy', m.entropy!, mean(truth.sums.entropy), 2e-5);
  const ratioError = ROUNDING * truth.logps.reduce((most, x) => max(most, -x), 1); // an error of the log-prob is a relative one here
  near('metrics.ratio.mean', m.ratio.mean, mean(truth.sums.ratio), ratioError);
  near('metrics.ratio.min', m.ratio.min, truth.tokens ? truth.sums.min : 0, ratioError);
  near('metrics.ratio.max', m.ratio.max, truth.tokens ? truth.sums.max : 0, ratioError);
  if (c.oracleConfig.beta > 0) near('metrics.kl', m.kl!, mean(truth.sums.kl), 1e-5, max(1, mean(truth.sums.klSize)));
  else if ('kl' in m) fail('metrics.kl without beta', m.kl, 'none');
  near('clipRatio.low', m.clipRatio.low, mean(truth.sums.low), 1e-12);
  near('clipRatio.high', m.clipRatio.high, mean(truth.sums.high), 1e-12);
  near('clipRatio.region', m.clipRatio.region, mean(truth.sums.low + truth.sums.high), 1e-12);
}

function loss(what: string, got: number, truth: Truth): void {
  const tolerance = 1e-5 * max(1, truth.terms) + ROUNDING * truth.lossScale;
  if (!(abs(got - truth.loss) <= tolerance)) fail(what, got, truth.loss);
}

function checkFused(c: Case, truth: Truth, inPlace: boolean): void {
  const batch = { ...c.batch, logits: c.batch.logits.slice() };
  const untouched = c.batch.logits;
  const out = grpoLoss(batch, { ...c.config, inPlace });
  loss('loss', out.loss, truth);
  allNear('logps', out.logps, truth.logps, 2e-5);
  allNear('entropies', out.entropies!, truth.entropies, 2e-5);
  if (out.logps.some((v) => v > 0)) fail('logps', max(...out.logps), 'at most 0');
  checkMetrics(c, truth, out.metrics);
  const V = c.batch.vocabSize;
  checkGradient(c, truth, out.gradLogits, inPlace ? c.start : c.start.map((_, t) => t * V));
  if (inPlace !== (out.gradLogits === batch.logits)) fail('inPlace', !inPlace, inPlace);
  const inRow = new Uint8Array(batch.logits.length);
  if (inPlace) c.start.forEach((s) => inRow.fill(1, s, s + V));
  batch.logits.forEach((v, i) => {
    if (!inRow[i] && !is(v, untouched[i])) fail(`element ${i} outside the rows`, v, untouched[i]);
  });
}

function checkStages(c: Case, truth: Truth): void {
  const { logits, dtype, vocabSize, targets, rowStride, sequenceStride, offsets, completionLength } = c.batch;
  const { temperature, ...config } = c.config;
  const layout = { offsets, completionLength } as SequenceLayout; // one of them is there
  const mask = Uint8Array.from(c.oracleBatch.selected, Number);
  const rows = { logits: logits.slice(), dtype, vocabSize, targets, rowStride, sequenceStride, ...layout, temperature, mask };
  const forward = selectiveLogp({ ...rows, entropy: true });
  const { oldLogps, refLogps, samplerLogps, truncated } = c.batch;
  const advantages = c.batch.advantages!;
  const tokens = { logps: forward.logps, entropies: forward.entropies, oldLogps, refLogps, samplerLogps };
  const middle = policyLoss({ ...tokens, ...layout, advantages, mask: c.batch.mask, truncated }, config);
  loss('policyLoss', middle.loss, truth);
  const { gradLogps, gradEntropies } = middle;
  truth.gradLogps.forEach((want, t) => {
    if (!(abs(gradLogps[t]! - want) <= 1e-6 * abs(want) + ROUNDING * truth.scale[t]! + UNDERFLOW))
      fail(`gradLogps[${t}]`, gradLogps[t], want);
  });
  if (gradEntropies) truth.gradEntropies.forEach((want, t) => near(`gradEntropies[${t}]`, gradEntropies[t]!, want, 1e-6, 0));
  else if (truth.gradEntropies.some((g) => g !== 0)) fail('gradEntropies', gradEntropies, 'an array');
  checkMetrics(c, truth, middle.metrics);
  const { gradLogits } = selectiveLogpBackward({ ...rows, lse: forward.lse, gradLogps, gradEntropies });
  checkGradient(c, truth, gradLogits, c.start);
}

/** A batch without its logits, and typed arrays as lists. */
function describeCase(c: Case): string {
  const { logits, ...small } = c.batch;
  return JSON.stringify({ ...small, ...c.config, size: logits.length }, (_, v: unknown) =>
    ArrayBuffer.isView(v) ? Array.from(v as Float32Array) : v,
  );
}

export interface Backend {
  name: string;
  use: () => void;
}

/** The seeds first ... last on every backend; a failure names its seed. Returns how many were too near to a decision to be compared. */
export function sweepOn(backends: readonly Backend[], first: number, last: number): number {
  let skipped = 0;
  for (let seed = first; seed <= last; ++seed) {
    const c = makeCase(seed);
    const truth = grpoOracle(c.oracleBatch, c.oracleConfig);
    if (truth.margin < NEAR_TIE) {
      skipped += 1;
      continue;
    }
    for (const { name, use } of backends) {
      use();
      try {
        checkFused(c, truth, true);
        checkFused(c, truth, false);
        checkStages(c, truth);
      } catch (error) {
        throw new Error(`seed ${seed}, ${name}: ${(error as Error).message}\n${describeCase(c)}`);
      }
    }
  }
  return skipped;
}

/** The same on the backend that is in use. */
export const sweep = (name: string, first: number, last: number): number => sweepOn([{ name, use: () => {} }], first, last);
