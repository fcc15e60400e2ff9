// A small GRPO run on the bundled model, and what it leaves behind.
import { afterAll, beforeAll, jest } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import type { GRPOStep, StepMetrics } from '../../lib/trainer/types.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'survival-'))));
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;
export const newFolder = () => join(folder, `run-${++runs}`);

export const { train: trainDataset, heldOut: evalDataset } = arithmeticProblems();
export const small: GRPOConfig = {
  numGenerations: 4,
  perDeviceTrainBatchSize: 32,
  maxCompletionLength: 4,
  learningRate: 1e-3,
  maxSteps: 4,
  saveSteps: 1,
  saveTotalLimit: 99,
};
export const numbers = ({
  seconds: _s,
  tokensPerSecond: _t,
  peakMemoryBytes: _p,
  evalSeconds: _e,
  servers: _s2,
  samplerKl: _k,
  rollout: _r,
  ...rest
}: StepMetrics) => rest;
export const weightsOf = (outputDir: string) => readFileSync(join(outputDir, 'model', 'model.safetensors'));
export const logOf = (outputDir: string) =>
  readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trim().split('\n').map((line) => numbers(JSON.parse(line) as StepMetrics)); // prettier-ignore

/** All steps of a trainer, which is freed however it ends. */
export async function collect(trainer: AsyncIterable<GRPOStep> & { dispose(): void }): Promise<GRPOStep[]> {
  const steps: GRPOStep[] = [];
  try {
    for await (const step of trainer) steps.push(step);
  } finally {
    trainer.dispose();
  }
  return steps;
}

export async function run(config: GRPOConfig, more: Partial<GRPOTrainerOptions> = {}): Promise<GRPOStep[]> {
  const all = { ...small, ...config };
  return collect(new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: all, ...more }));
}

/** The warnings that `work` emits. */
export async function warningsOf(work: () => Promise<unknown>): Promise<string[]> {
  const spy = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  try {
    await work();
    return spy.mock.calls.map(([message]) => String(message));
  } finally {
    spy.mockRestore();
  }
}
