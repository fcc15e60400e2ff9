// The demo's work without its show: accuracy before, GRPO training, accuracy after, on problems that training never sees.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Policy } from '../engine/policy.js';
import { packageRoot } from '../native.js';
import type { GRPOConfig } from '../trainer/config.js';
import { GRPOTrainer } from '../trainer/grpo-trainer.js';
import type { GRPOStep } from '../trainer/types.js';
import { arithmeticProblems, correctAnswer, type Problem } from './arithmetic.js';
import { accuracy } from './evaluate.js';

export interface LessonRow {
  problem: string;
  answer: string;
  before: string;
  after: string;
}

export interface LessonResult {
  accuracyBefore: number;
  accuracyAfter: number;
  heldOut: number;
  rows: LessonRow[];
  trainSeconds: number;
  steps: number;
}

export interface LessonOptions {
  outputDir: string;
  maxSteps?: number;
  seed?: number;
  signal?: AbortSignal;
  /** What the demo is doing, for a person. */
  onPhase?: (text: string) => void;
  onStep?: (step: GRPOStep, totalSteps: number) => void;
}

/** The lesson's settings: small batches of many problems, a high learning rate for a very small model. */
export const lessonConfig: GRPOConfig = {
  numGenerations: 8,
  perDeviceTrainBatchSize: 512,
  maxCompletionLength: 4,
  learningRate: 7e-4,
  lrSchedulerType: 'linear',
  warmupSteps: 5,
  maxSteps: 400,
  saveSteps: 0,
};

export const demoModel = (): string => join(packageRoot, 'demo', 'model');

/** Problems to show: first those that were wrong and became right, then others. */
function pickRows(problems: Problem[], before: string[], after: string[], count: number): LessonRow[] {
  const rows = problems.map((p, i) => ({ problem: p.prompt, answer: p.answer, before: before[i]!, after: after[i]! }));
  const rank = (r: LessonRow) =>
    r.before !== r.answer && r.after === r.answer ? 0 : r.before === r.answer && r.after === r.answer ? 2 : 1;
  const mended = rows.filter((r) => rank(r) === 0).slice(0, Math.ceil(count * 0.6));
  const failed = rows.filter((r) => r.after !== r.answer).slice(0, Math.floor(count * 0.2));
  const kept = rows.filter((r) => rank(r) === 2).slice(0, count - mended.length - failed.length);
  return [...mended, ...kept, ...failed];
}

/** Runs the lesson and returns its figures; the caller prints and draws them. */
export async function teach(options: LessonOptions): Promise<LessonResult> {
  const say = options.onPhase ?? (() => undefined);
  if (!existsSync(join(demoModel(), 'model.safetensors'))) throw new Error(`The demo model is missing from ${demoModel()}`);
  const { train, heldOut } = arithmeticProblems();
  say('Loading the bundled model');
  const policy = await Policy.load(demoModel(), { device: 'cpu', dtype: 'float32', signal: options.signal });
  try {
    say(`Asking it ${heldOut.length} held-out problems`);
    const before = await accuracy(policy, heldOut, options.signal);
    say(`It gets ${(100 * before.accuracy).toFixed(1)} % right. Training by GRPO: the only signal is "right" or "wrong"`);
    const trainer = new GRPOTrainer({
      model: policy,
      rewardFuncs: correctAnswer,
      trainDataset: train,
      config: {
        ...lessonConfig,
        ...(options.maxSteps === undefined ? {} : { maxSteps: options.maxSteps }),
        seed: options.seed ?? 42,
        outputDir: options.outputDir,
      },
      signal: options.signal,
    });
    const begin = performance.now();
    let steps = 0;
    for await (const step of trainer) {
      steps = step.step;
      options.onStep?.(step, trainer.totalSteps);
    }
    const trainSeconds = (performance.now() - begin) / 1000;
    say('Asking the held-out problems again');
    const after = await accuracy(policy, heldOut, options.signal);
    return {
      accuracyBefore: before.accuracy,
      accuracyAfter: after.accuracy,
      heldOut: heldOut.length,
      rows: pickRows(heldOut, before.answers, after.answers, 12),
      trainSeconds,
      steps,
    };
  } finally {
    policy.dispose();
  }
}
