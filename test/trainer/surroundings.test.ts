// Runs among others: several at once, aborted, in worker threads, on a disk that fills up.
import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { RewardModel } from '../../lib/reward/reward-model.js';
import { listCheckpoints } from '../../lib/trainer/checkpoint.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { evaluateModel } from '../../lib/trainer/evaluate-model.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { PPOTrainer } from '../../lib/trainer/ppo-trainer.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';
import type { GRPOStep, StepMetrics } from '../../lib/trainer/types.js';

import { logOf, newFolder, numbers, run, small, trainDataset, warningsOf, weightsOf } from './support.js';

test('several trainers at once give what each gives alone', async () => {
  const sft = async () => {
    const rows = trainDataset.slice(0, 64).map((row) => ({ prompt: row.prompt, completion: '7' }));
    const trainer = new SFTTrainer({ model: demoModel(), trainDataset: rows, config: { maxSteps: 3 } });
    const last = await trainer.train();
    trainer.dispose();
    return last!.metrics.loss;
  };
  const grpo = async (seed: number) => (await run({ seed, saveSteps: 0 })).map((s) => numbers(s.metrics));
  const alone = [await grpo(1), await grpo(2), await sft()];
  expect(await Promise.all([grpo(1), grpo(2), sft()])).toEqual(alone);
});

test('an abort at any time: no half-applied step', async () => {
  const whole = newFolder();
  const all = await run({ outputDir: whole, maxSteps: 6 });
  const parts = newFolder();
  const steps: GRPOStep[] = [];
  for (let delay = 0; steps.at(-1)?.step !== 6; delay = (delay + 7) % 60) {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(new Error('enough')), 5 + delay);
    const trainer = new GRPOTrainer({
      model: demoModel(),
      rewardFuncs: correctAnswer,
      trainDataset,
      config: { ...small, outputDir: parts, maxSteps: 6, resume: 'auto' },
      signal: controller.signal,
    });
    try {
      for await (const step of trainer) steps.push(step);
    } catch (error) {
      expect(String(error)).toMatch(/enough/);
    } finally {
      clearTimeout(timer);
      trainer.dispose();
    }
  }
  expect(steps.map((s) => numbers(s.metrics))).toEqual(all.map((s) => numbers(s.metrics)));
  expect(weightsOf(parts).equals(weightsOf(whole))).toBe(true);
});

describe('an abort rejects with the very reason, whoever is asked and whenever it comes', () => {
  const model = demoModel();
  const pairs = Array.from({ length: 16 }, () => ({ prompt: '1+1=', chosen: '2', rejected: '3' }));
  const examples = Array.from({ length: 16 }, () => ({ prompt: '1+1=', completion: '2' }));
  const config = { maxSteps: 1000, perDeviceTrainBatchSize: 8 };
  const sampled = { ...config, maxCompletionLength: 8 };
  const score = async (signal: AbortSignal) => {
    const judge = await RewardModel.load(join(__dirname, '../golden/reward/model'), { signal });
    await judge.score(new Array(4000).fill({ prompt: '1+1=', completion: '2' }), { signal }).finally(() => judge.dispose());
  };
  test.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
    ['GRPOTrainer', (signal) => new GRPOTrainer({ model, rewardFuncs: correctAnswer, trainDataset, config: sampled, signal }).train()],
    ['PPOTrainer', (signal) => new PPOTrainer({ model, rewardFuncs: correctAnswer, trainDataset, config: sampled, signal }).train()],
    ['SFTTrainer', (signal) => new SFTTrainer({ model, trainDataset: examples, config, signal }).train()],
    ['RewardTrainer', (signal) => new RewardTrainer({ model, trainDataset: pairs, config, signal }).train()],
    ['evaluateModel', (signal) => evaluateModel({ model, rewardFuncs: correctAnswer, dataset: trainDataset, numGenerations: 64, signal })],
    ['RewardModel', score],
  ])('%s', async (_, call) => {
    for (const reason of [new Error('enough'), 'a text', undefined]) {
      const [before, during] = [new AbortController(), new AbortController()];
      before.abort(reason);
      await expect(call(before.signal)).rejects.toBe(before.signal.reason);
      setTimeout(() => during.abort(reason), 60);
      const said = await call(during.signal).catch((error: unknown) => [error]);
      expect(said).toEqual([during.signal.reason]);
      expect((said as unknown[])[0]).toBe(during.signal.reason);
    }
  });
});

describe('in a worker thread', () => {
  const SCRIPT = `
    const { workerData, parentPort } = require('node:worker_threads');
    const { GRPOTrainer } = require(workerData.dist + '/trainer/grpo-trainer.js');
    const { arithmeticProblems, correctAnswer } = require(workerData.dist + '/demo/arithmetic.js');
    const { demoModel } = require(workerData.dist + '/demo/lesson.js');
    const { train: trainDataset } = arithmeticProblems();
    const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: workerData.config });
    (async () => { for await (const step of trainer) parentPort.postMessage(step.metrics); trainer.dispose(); })();
  `;
  const inWorker = (config: GRPOConfig, stopAfter = Infinity) =>
    new Promise<StepMetrics[]>((resolve, reject) => {
      const worker = new Worker(SCRIPT, { eval: true, workerData: { dist: join(__dirname, '../../dist/cjs'), config } });
      const steps: StepMetrics[] = [];
      worker.on('message', (m: StepMetrics) => {
        if (steps.push(m) === stopAfter) void worker.terminate();
      });
      worker.on('error', reject);
      worker.on('exit', () => resolve(steps));
    });

  test('the same numbers as on the main thread; terminated in the middle, a resume goes on bit for bit', async () => {
    const [whole, parts] = [newFolder(), newFolder()];
    const all = await run({ outputDir: whole, maxSteps: 6 });
    const config = { ...small, maxSteps: 6, resume: 'auto' };
    const [a, b] = await Promise.all([inWorker({ ...config, outputDir: newFolder() }), inWorker({ ...config, outputDir: parts }, 2)]);
    expect(a.map(numbers)).toEqual(all.map((s) => numbers(s.metrics)));
    expect(b.length).toBeLessThan(6);
    await inWorker({ ...config, outputDir: parts });
    expect(weightsOf(parts).equals(weightsOf(whole))).toBe(true);
    expect(logOf(parts)).toEqual(logOf(whole));
  });
});

const smallDisk = () => {
  const dir = newFolder();
  mkdirSync(dir);
  return { dir, mounted: spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=14m', 'tmpfs', dir]).status === 0 };
};

test('a full disk: a clear error, the last checkpoint is whole, and the run goes on when there is room again', async () => {
  const { dir, mounted } = smallDisk();
  if (!mounted) return void console.log('skipped: no file system of a given size can be mounted here');
  try {
    const whole = newFolder();
    const all = await run({ outputDir: whole, maxSteps: 6 });
    const outputDir = join(dir, 'run');
    await run({ outputDir, maxSteps: 6 }, { onStep: ({ step }) => { if (step === 2) throw new Error('stop'); } }).catch(() => undefined); // prettier-ignore
    const kept = listCheckpoints(outputDir)[0]!.step;
    const { bsize, bavail } = statfsSync(dir);
    writeFileSync(join(dir, 'ballast'), Buffer.alloc(Math.max(0, bsize * bavail - 20000)));
    let error: unknown;
    await warningsOf(() => run({ outputDir, maxSteps: 6, resume: 'auto' }).catch((e) => (error = e)));
    expect(String(error)).toMatch(/the disk is full|no space left on device/i);
    expect(listCheckpoints(outputDir)[0]!.step).toBe(kept);
    rmSync(join(dir, 'ballast'));
    rmSync(join(outputDir, 'checkpoint-1'), { recursive: true, force: true });
    const steps = await run({ outputDir, maxSteps: 6, resume: 'auto', saveTotalLimit: 1 });
    expect(steps.map((s) => numbers(s.metrics))).toEqual(all.slice(kept).map((s) => numbers(s.metrics)));
  } finally {
    spawnSync('umount', [dir]);
  }
});

test('memory is back where it was after runs that were aborted', async () => {
  const once = async (delay: number) => {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), delay);
    await run({ saveSteps: 0, maxSteps: 50, generateAhead: true, beta: 0.1 }, { signal: controller.signal }).catch(() => undefined);
    clearTimeout(timer);
  };
  for (let i = 0; i < 6; ++i) await once(20 + 10 * i);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 30; ++i) await once(10 + (13 * i) % 90); // prettier-ignore
  expect(process.memoryUsage().rss - before).toBeLessThan(40e6);
}, 30000);
