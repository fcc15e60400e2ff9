// A step whose loss or gradient is not finite: which sequences (or pairs) are to blame, and what is written down about them.
import { join } from 'node:path';
import type { TrainBatch, TrainLoss, Training } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
import type { Ranks } from '../distributed/ranks.js';
import { makeFolder, writeFileAtomic } from './files.js';

/** Steps left out so far, and how many of them in a row. */
export interface Skipped {
  total: number;
  inRow: number;
}

/** Errors of accumulate and optimizerStep that leave everything as it was and say that numbers are not finite. */
export const isNonFinite = (error: unknown): error is FusedGrpoError =>
  error instanceof FusedGrpoError && (error.code === 'ERR_NON_FINITE' || error.code === 'ERR_TRAINING');

/** Sequence `s` of the batch as a batch of its own. */
function alone(batch: TrainBatch, s: number): TrainBatch {
  const completions = Array.from(batch.promptLengths, (p, i) => batch.offsets[i + 1]! - batch.offsets[i]! - p);
  const from = completions.slice(0, s).reduce((a, b) => a + b, 0);
  const to = from + completions[s]!;
  const perToken = batch.advantages.length !== completions.length;
  return {
    tokens: batch.tokens.slice(batch.offsets[s], batch.offsets[s + 1]),
    offsets: Int32Array.of(0, batch.offsets[s + 1]! - batch.offsets[s]!),
    promptLengths: batch.promptLengths.slice(s, s + 1),
    advantages: perToken ? batch.advantages.slice(from, to) : batch.advantages.slice(s, s + 1),
    mask: batch.mask?.slice(from, to),
    truncated: batch.truncated?.slice(s, s + 1),
    oldLogps: batch.oldLogps?.slice(from, to),
    refLogps: batch.refLogps?.slice(from, to),
    samplerLogps: batch.samplerLogps?.slice(from, to),
  };
}

/** What a step was made of, one by one: those to blame are to be found among them. */
export interface Suspects {
  /** In the plural, for the message and the file. */
  what: 'sequences' | 'pairs';
  count: number;
  /** Accumulates the gradients of number `s` alone; undefined where it has none. */
  accumulate: (s: number) => Promise<unknown> | undefined;
  describe: (s: number) => object;
}

/** Those that alone give something that is not finite, with why. Costs a step; leaves no gradients behind. */
async function culprits(training: Training, { count, accumulate }: Suspects): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (let s = 0; s < count; ++s) {
    const accumulated = accumulate(s);
    if (!accumulated) continue;
    try {
      await accumulated;
      const norm = await training.gradientNorm();
      await training.zeroGrad();
      if (!Number.isFinite(norm)) found.set(s, 'its gradient is not finite');
    } catch (error) {
      if (!isNonFinite(error)) throw error;
      found.set(s, error.message);
    }
  }
  return found;
}

const listed = (values: ArrayLike<number> | undefined) => values && Array.from(values, (v) => (Number.isFinite(v) ? v : String(v)));

/** What texts are made with, where there is a tokenizer. */
export interface Reader {
  tokenizer?: unknown;
  decode?: (tokens: Int32Array) => string;
}

function describedSequence(policy: Reader, batch: TrainBatch): object {
  const { tokens, promptLengths, advantages, oldLogps, refLogps, samplerLogps } = batch;
  const [prompt, completion] = [tokens.slice(0, promptLengths[0]), tokens.slice(promptLengths[0])];
  const text = policy.tokenizer && policy.decode ? { prompt: policy.decode(prompt), completion: policy.decode(completion) } : {};
  const logps = { oldLogps: listed(oldLogps), refLogps: listed(refLogps), samplerLogps: listed(samplerLogps) };
  return { ...text, promptTokens: [...prompt], completionTokens: [...completion], advantages: listed(advantages), ...logps };
}

/** The sequences of a batch. */
export function sequencesOf(batch: TrainBatch, loss: TrainLoss, training: Training, policy: Reader, signal: AbortSignal): Suspects {
  return {
    ...{ what: 'sequences', count: batch.promptLengths.length },
    accumulate: (s) => {
      const one = alone(batch, s);
      if (one.tokens.length === one.promptLengths[0]) return undefined;
      return training.accumulate(one, loss, { microBatchTokens: 0, fused: true, signal });
    },
    describe: (s) => describedSequence(policy, alone(batch, s)),
  };
}

/** Looks for those to blame and writes them to outputDir/non-finite/step-<step>.json; returns where they are, in words. */
export async function recordNonFinite(
  error: FusedGrpoError,
  step: number,
  suspects: Suspects,
  run: { training: Training; outputDir?: string; ranks: Pick<Ranks, 'rank' | 'worldSize'> },
): Promise<string | undefined> {
  const { outputDir, ranks } = run;
  if (outputDir === undefined) return undefined;
  const { what, describe } = suspects;
  const found = await culprits(run.training, suspects);
  const blamed = [...found].map(([index, why]) => ({ index, why, ...describe(index) }));
  const folder = join(outputDir, 'non-finite');
  makeFolder(folder);
  const file = join(folder, ranks.worldSize > 1 ? `step-${step}-rank-${ranks.rank}.json` : `step-${step}.json`);
  const note = blamed.length === 0 ? { note: `none of the ${what} alone is not finite: their sum is` } : {};
  writeFileAtomic(file, JSON.stringify({ step, error: error.message, ...note, [what]: blamed }, null, 1) + '\n');
  return `the ${what} are in ${file}`;
}
