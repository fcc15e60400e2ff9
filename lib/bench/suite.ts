// The cases of the benchmark suite, and which shapes the full and the quick run give them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../native.js';
import { cudaCase, cudaSkipped } from './cuda.js';
import { linearCase } from './linear.js';
import { lossCase, type LossShape } from './loss.js';
import type { BenchContext, CaseResult } from './measure.js';
import { advantagesCase, optimizerCase } from './small.js';
import { generationCase, stepCase, type StepShape } from './step.js';

/** One thing to run. */
export interface Job {
  case: string;
  run: (context: BenchContext) => Promise<CaseResult>;
  /** Why it is not run on this machine. */
  skip?: string;
}

export const CASES = ['loss', 'linear', 'step', 'generation', 'advantages', 'optimizer', 'cuda'] as const;

/** Those in which peers are measured. */
export const PEER_CASES = ['loss', 'linear', 'step'] as const;

const DTYPES = ['float32', 'bfloat16'] as const;
const VOCABULARIES = [32_000, 49_152, 128_256, 151_936, 262_144];

/** Without such instructions libtorch multiplies 16-bit matrices one number at a time: minutes per product. */
function hasBfloat16Products(): boolean {
  try {
    return /\b(avx512_bf16|amx_bf16)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}

function lossShapes(quick: boolean): LossShape[] {
  const one = (vocab: number, dtype: LossShape['dtype'], more: Partial<LossShape> = {}): LossShape => ({
    ...{ tokens: quick ? 64 : 512, vocab, dtype, selected: 1, level: 'token' },
    ...more,
  });
  const vocabularies = quick ? [32_000, 151_936] : VOCABULARIES;
  return DTYPES.flatMap((dtype) => [
    ...vocabularies.map((vocab) => one(vocab, dtype, { everySimd: vocab === 151_936 })),
    one(151_936, dtype, { selected: 0.5 }),
    one(151_936, dtype, { level: 'sequence' }),
  ]);
}

function stepShape(model: string | undefined, quick: boolean): StepShape {
  return {
    ...{ model: model ?? join(packageRoot, 'demo', 'model'), prompts: quick ? 4 : 16, numGenerations: 8 },
    ...{ promptLength: 8, maxCompletionLength: quick ? 8 : 16, dtype: 'auto', beta: 0, microBatchTokens: 0 },
  };
}

/** Everything the suite would run, in order. `only`: names of cases; empty: all. */
export function jobs(only: readonly string[], quick: boolean, model?: string): Job[] {
  const shape = stepShape(model, quick);
  const cudaSkip = cudaSkipped();
  const width = quick ? 128 : 576;
  const linear = { tokens: quick ? 128 : 512, width, vocab: quick ? 32_000 : 49_152, workspaceBytes: 2 ** 28 };
  const all: Job[] = [
    ...lossShapes(quick).map((s): Job => ({ case: 'loss', run: (c) => lossCase(s, c) })),
    { case: 'linear', run: (c) => linearCase({ ...linear, dtype: 'float32' }, c) },
    {
      case: 'linear',
      run: (c) => linearCase({ ...linear, dtype: 'bfloat16' }, c),
      ...(hasBfloat16Products() ? {} : { skip: 'bfloat16: this CPU has no 16-bit matrix products (avx512_bf16 or amx_bf16)' }),
    },
    { case: 'step', run: (c) => stepCase(shape, c) },
    { case: 'generation', run: (c) => generationCase(shape, c) },
    { case: 'advantages', run: (c) => advantagesCase(quick ? 8192 : 65_536, 8, c) },
    { case: 'optimizer', run: (c) => optimizerCase(quick ? 4_000_000 : 32_000_000, c) },
    { case: 'cuda', run: cudaCase, ...(cudaSkip ? { skip: cudaSkip } : {}) },
  ];
  return all.filter((job) => only.length === 0 || only.includes(job.case));
}
