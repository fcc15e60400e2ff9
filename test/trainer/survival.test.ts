// Runs that survive: kill -9 at any moment, damaged checkpoints, numbers that are not finite, a full disk, an abort in every phase.
import { beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { listCheckpoints } from '../../lib/trainer/checkpoint.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import type { RewardFn } from '../../lib/trainer/reward-types.js';
import type { GRPOStep } from '../../lib/trainer/types.js';

import { evalDataset, logOf, newFolder, run, small, trainDataset, warningsOf, weightsOf } from './support.js';

describe('kill -9 at any moment, then resume: the same run bit for bit', () => {
  const SCRIPT = `
    const [, dist, outputDir] = process.argv;
    const { GRPOTrainer } = require(dist + '/trainer/grpo-trainer.js');
    const { arithmeticProblems, correctAnswer } = require(dist + '/demo/arithmetic.js');
    const { demoModel } = require(dist + '/demo/lesson.js');
    const config = { numGenerations: 4, perDeviceTrainBatchSize: 64, maxCompletionLength: 4, learningRate: 2e-3, maxSteps: 14, saveSteps: 1, saveTotalLimit: 2,
      numIterations: 2, beta: 0.05, refModelSyncSteps: 4, generateAhead: true, evalSteps: 5, outputDir, resume: 'auto', seed: 3 };
    const { train: trainDataset, heldOut: evalDataset } = arithmeticProblems();
    new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, evalDataset: evalDataset.slice(0, 20), config }).train().then(() => console.log('end'));
  `;
  /** Runs until it ends or `after` milliseconds have passed since its first sign of life; says whether it came to its end. */
  const start = (outputDir: string, threads: number, after?: number) =>
    new Promise<boolean>((resolve, reject) => {
      const env = { ...process.env, OMP_NUM_THREADS: String(threads), NODE_OPTIONS: '' };
      const child = spawn(process.execPath, ['-e', SCRIPT, join(__dirname, '../../dist/cjs'), outputDir], { env });
      let [out, err] = ['', ''];
      child.stdout.on('data', (data: Buffer) => (out += data.toString()));
      child.stderr.on('data', (data: Buffer) => (err += data.toString()));
      const before = listCheckpoints(outputDir)[0]?.step ?? 0;
      const watch = setInterval(() => {
        // Loading takes longer than a step: the clock starts where training does.
        const alive = existsSync(join(outputDir, 'metrics.jsonl')) && (listCheckpoints(outputDir)[0]?.step ?? 0) > before;
        if (after === undefined || !alive) return;
        clearInterval(watch);
        setTimeout(() => child.kill('SIGKILL'), after);
      }, 2);
      child.on('exit', (code) => {
        clearInterval(watch);
        if (code !== null && code !== 0) reject(new Error(err));
        else resolve(out.includes('end'));
      });
    });

  test.each([1, 2, 4])('%i threads', async (threads) => {
    const [whole, killed] = [newFolder(), newFolder()];
    expect(await start(whole, threads)).toBe(true);
    let kills = 0;
    while (!(await start(killed, threads, [3, 25, 11, 40, 0, 17][kills % 6]))) ++kills;
    expect(kills).toBeGreaterThan(0);
    expect(logOf(killed)).toEqual(logOf(whole));
    expect(weightsOf(killed).equals(weightsOf(whole))).toBe(true);
    expect(readdirSync(killed).filter((name) => /\.(part|old)$/.test(name)).length).toBeLessThan(3);
  }, 60000); // prettier-ignore
});

describe('damaged checkpoints', () => {
  let source: string;
  beforeAll(async () => {
    source = newFolder();
    await run({ outputDir: source, maxSteps: 3 });
  });
  const damage: [string, (checkpoint: string) => void][] = [
    ['weights cut off', (c) => truncateSync(join(c, 'model.safetensors'), 1000)],
    ['a bit of the weights', (c) => flip(join(c, 'model.safetensors'))],
    ['a bit of the moments', (c) => flip(join(c, 'trainer', 'optimizer.safetensors'))],
    ['state cut off', (c) => truncateSync(join(c, 'trainer', 'state.json'), 50)],
    ['tokenizer gone', (c) => rmSync(join(c, 'tokenizer.json'))],
  ];
  function flip(path: string): void {
    const bytes = readFileSync(path);
    bytes[bytes.length - 5]! ^= 1;
    writeFileSync(path, bytes);
  }

  test.each(damage)('%s: the one before it is taken, and the run ends as it would have', async (_name, spoil) => {
    const outputDir = newFolder();
    cpSync(source, outputDir, { recursive: true });
    spoil(join(outputDir, 'checkpoint-3'));
    let steps: GRPOStep[] = [];
    const warnings = await warningsOf(async () => (steps = await run({ outputDir, maxSteps: 3, resume: 'auto' })));
    expect(warnings.join()).toMatch(/Cannot resume from .*checkpoint-3.*going on from .*checkpoint-2/);
    expect(steps.map((s) => s.step)).toEqual([3]);
    expect(weightsOf(outputDir).equals(weightsOf(source))).toBe(true);
    spoil(join(outputDir, 'checkpoint-3'));
    await expect(run({ outputDir, resume: join(outputDir, 'checkpoint-3') })).rejects.toThrow(
      /Cannot resume from .*checkpoint-3: .* is unreadable/,
    );
  });

  test('no whole one is left: an error, not a run from the beginning', async () => {
    const outputDir = newFolder();
    cpSync(source, outputDir, { recursive: true });
    for (const { folder: checkpoint } of listCheckpoints(outputDir)) flip(join(checkpoint, 'model.safetensors'));
    await expect(run({ outputDir, resume: 'auto' })).rejects.toThrow(/checkpoint-3: .*model.safetensors is unreadable \(its checksum/);
  });
});

describe('numbers that are not finite', () => {
  /** Rewards of step `at` are too large for an advantage of float32 (of the one completion), and their gradient with them. */
  const spoiled = (at: (step: number) => boolean, reward = 1e300): RewardFn => (input) =>
    correctAnswer(input).map((r, i) => (at(input.trainerState.step) && i === 5 ? reward : r)); // prettier-ignore
  const config: GRPOConfig = {
    ...small,
    perDeviceTrainBatchSize: 8,
    lossType: 'grpo',
    scaleRewards: 'none',
    baseline: 'none',
    maxSteps: 5,
  };

  test.each([
    ['an advantage', 1e300, 1, /advantage of completion 0, token 0 is not finite/],
    ['a gradient', 3e38, 0.001, /gradient is not finite/],
  ])('%s: the step is left out, counted, and the sequence written down', async (_name, reward, temperature, why) => {
    const outputDir = newFolder();
    let steps: GRPOStep[] = [];
    const warnings = await warningsOf(async () => (steps = await run({ ...config, temperature, repetitionPenalty: temperature < 1 ? 4 : 1, outputDir }, { rewardFuncs: spoiled((s) => s === 1, reward) })));
    expect(steps.map((s) => s.metrics.skippedSteps)).toEqual([0, 1, 1, 1, 1]);
    expect(steps.map((s) => Number.isFinite(s.metrics.loss))).toEqual([true, false, true, true, true]);
    expect(warnings.join()).toMatch(/step 2 was left out: .*the sequences are in .*step-2.json/);
    const { sequences } = JSON.parse(readFileSync(join(outputDir, 'non-finite', 'step-2.json'), 'utf8')) as { sequences: { index: number; why: string; prompt: string; completion: string }[] };
    expect(sequences.map((s) => s.index)).toEqual([5]);
    expect(sequences[0]!.why).toMatch(why);
    expect(sequences[0]!.prompt).toBe(steps[1]!.samples[5]!.prompt);
    const [before, after] = [1, 2].map((k) => readFileSync(join(outputDir, `checkpoint-${k}`, 'model.safetensors')));
    expect(before!.equals(after!)).toBe(true); // nothing was changed
    expect(logOf(outputDir)[1]!.loss).toBeNull();
  }); // prettier-ignore

  test('more than maxSkippedSteps in a row: the run ends with an error, saved', async () => {
    const outputDir = newFolder();
    let error: unknown;
    await warningsOf(() =>
      run({ ...config, maxSkippedSteps: 1, outputDir }, { rewardFuncs: spoiled((s) => s > 0) }).catch((e) => (error = e)),
    );
    expect(String(error)).toMatch(/2 steps in a row were not finite \(maxSkippedSteps 1\); the sequences are in/);
    expect(listCheckpoints(outputDir)[0]!.step).toBe(2);
    await expect(run({ ...config, maxSkippedSteps: 0 }, { rewardFuncs: spoiled((s) => s > 0) })).rejects.toThrow(
      /advantage of completion 5, token 0 is not finite/,
    );
  });

  test('the count survives a resume', async () => {
    const outputDir = newFolder();
    const rewardFuncs = spoiled((s) => s === 1);
    const stop = ({ step }: GRPOStep) => {
      if (step === 3) throw new Error('stop');
    };
    await warningsOf(async () => {
      await run({ ...config, outputDir }, { rewardFuncs, onStep: stop }).catch(() => undefined);
      const steps = await run({ ...config, outputDir, resume: 'auto' }, { rewardFuncs });
      expect(steps.map((s) => [s.step, s.metrics.skippedSteps])).toEqual([[4, 1], [5, 1]]); // prettier-ignore
    });
  });
});

describe('evaluation', () => {
  test('greedy and sampled; the best checkpoint is kept and becomes the model', async () => {
    const outputDir = newFolder();
    const rows = evalDataset.slice(0, 30);
    // The reward falls: the first evaluation is the best.
    const falling: RewardFn = ({ completions, trainerState }) => completions.map((_, i) => 1 - 0.1 * trainerState.step + 0.001 * (i % 3));
    const config = { outputDir, saveTotalLimit: 1, maxSteps: 6, evalSteps: 2, loadBestModelAtEnd: true };
    const steps = await run(config, { rewardFuncs: falling, evalDataset: rows });
    expect(steps.map((s) => s.metrics.evalReward !== undefined)).toEqual([false, true, false, true, false, true]);
    expect(listCheckpoints(outputDir).map((c) => c.step)).toEqual([6, 2]);
    expect(JSON.parse(readFileSync(join(outputDir, 'best.json'), 'utf8'))).toMatchObject({ step: 2, metric: 'evalReward' });
    expect(weightsOf(outputDir).equals(readFileSync(join(outputDir, 'checkpoint-2', 'model.safetensors')))).toBe(true);
    expect(existsSync(join(outputDir, 'model', 'trainer'))).toBe(false);
  });

  test('pass@1, pass@K and greedy against counting by hand; the same numbers every time', async () => {
    const rows = evalDataset.slice(0, 25);
    const seen: number[][] = [];
    const spy: RewardFn = (input) => {
      const values = correctAnswer(input);
      seen.push([...values].map((v) => Number(v)));
      return values;
    };
    const config = { ...small, numGenerations: 4, perDeviceTrainBatchSize: 4 * 40, evalNumGenerations: 3, evalPassThreshold: 0.999 };
    const trainer = new GRPOTrainer({
      model: demoModel(),
      rewardFuncs: spy,
      trainDataset,
      evalDataset: rows,
      config: { ...config, maxSteps: 1 },
    });
    await trainer.train();
    seen.length = 0;
    const metrics = await trainer.evaluate();
    const [greedy, sampled] = [seen[0]!, seen[1]!];
    expect([greedy.length, sampled.length]).toEqual([25, 75]);
    const passed = (v: number) => v >= 0.999;
    const groups = rows.map((_, i) => sampled.slice(3 * i, 3 * i + 3));
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(metrics.evalPassGreedy).toBeCloseTo(greedy.filter(passed).length / 25, 12);
    expect(metrics.evalPassAt1).toBeCloseTo(sampled.filter(passed).length / 75, 12);
    expect(metrics.evalPassAtK).toBeCloseTo(groups.filter((g) => g.some(passed)).length / 25, 12);
    expect(metrics.evalReward).toBeCloseTo(mean(sampled), 12);
    expect(metrics.evalRewardGreedy).toBeCloseTo(mean(greedy), 12);
    const early = new GRPOTrainer({ model: demoModel(), rewardFuncs: spy, trainDataset, evalDataset: rows });
    await expect(early.evaluate()).rejects.toThrow(
      /evaluate\(\) asks the policy, which is loaded when training begins: call it in the loop/,
    );
    const again = await trainer.evaluate();
    expect({ ...again, evalSeconds: 0 }).toEqual({ ...metrics, evalSeconds: 0 });
    trainer.dispose();
    expect(() => new GRPOTrainer({ model: demoModel(), rewardFuncs: spy, trainDataset, config: { evalSteps: 1 } })).toThrow(
      /evalSteps needs evalDataset/,
    );
  });
});
