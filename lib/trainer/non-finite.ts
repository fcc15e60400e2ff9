// A step whose loss or gradient is not finite: which sequences are to blame, and what is written down about them.
import { join } from 'node:path';
import type { TrainBatch, TrainLoss, Training } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
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

/** The sequences that alone give something that is not finite, with why. Costs a step; leaves no gradients behind. */
async function culprits(training: Training, batch: TrainBatch, loss: TrainLoss, signal: AbortSignal): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (let s = 0; s < batch.promptLengths.length; ++s) {
    const one = alone(batch, s);
    if (one.tokens.length === one.promptLengths[0]) continue;
    try {
      await training.accumulate(one, loss, { microBatchTokens: 0, fused: true, signal });
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

function described(policy: Reader, batch: TrainBatch, s: number, why: string): object {
  const { tokens, promptLengths, advantages, oldLogps, refLogps, samplerLogps } = alone(batch, s);
  const [prompt, completion] = [tokens.slice(0, promptLengths[0]), tokens.slice(promptLengths[0])];
  const text = policy.tokenizer && policy.decode ? { prompt: policy.decode(prompt), completion: policy.decode(completion) } : {};
  const logps = { oldLogps: listed(oldLogps), refLogps: listed(refLogps), samplerLogps: listed(samplerLogps) };
  return { index: s, why, ...text, promptTokens: [...prompt], completionTokens: [...completion], advantages: listed(advantages), ...logps };
}

/** Looks for the sequences to blame and writes them to outputDir/non-finite/step-<step>.json; returns that file's name. */
export async function recordNonFinite(
  error: FusedGrpoError,
  step: number,
  batch: TrainBatch,
  loss: TrainLoss,
  run: { policy: Reader; training: Training; outputDir?: string; rank?: number; signal: AbortSignal },
): Promise<string | undefined> {
  if (run.outputDir === undefined) return undefined;
  const found = await culprits(run.training, batch, loss, run.signal);
  const sequences = [...found].map(([s, why]) => described(run.policy, batch, s, why));
  const folder = join(run.outputDir, 'non-finite');
  makeFolder(folder);
  const file = join(folder, run.rank === undefined ? `step-${step}.json` : `step-${step}-rank-${run.rank}.json`);
  const note = sequences.length === 0 ? { note: 'no sequence alone is not finite: their sum is' } : {};
  writeFileAtomic(file, JSON.stringify({ step, error: error.message, ...note, sequences }, null, 1) + '\n');
  return file;
}
