import { afterAll, expect, jest, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import type { RewardFn } from '../../lib/trainer/reward-types.js';
import { rewardGroups, stepSamples } from '../../lib/trainer/samples.js';
import { quantiles } from '../../lib/trainer/step-metrics.js';
import type { RewardGroup, Sample, StepMetrics } from '../../lib/trainer/types.js';

const folder = mkdtempSync(join(tmpdir(), 'metrics '));
afterAll(() => rmSync(folder, { recursive: true }));

test("quantiles as numpy's", () => {
  expect(quantiles([3, 1, 2])).toEqual({ min: 1, q25: 1.5, median: 2, q75: 2.5, max: 3 });
  expect(quantiles([0, 10, 20, 70])).toEqual({ min: 0, q25: 7.5, median: 15, q75: 32.5, max: 70 }); // numpy.quantile
  expect(quantiles([5])).toEqual({ min: 5, q25: 5, median: 5, q75: 5, max: 5 });
  expect(quantiles([])).toEqual({ min: 0, q25: 0, median: 0, q75: 0, max: 0 });
});

test('rewards of groups: the first ones, nothing to say as null, prompts cut', () => {
  const groups = rewardGroups(
    Array.from({ length: 20 }, (_, i) => `p${i}`.padEnd(200, 'x')),
    Float64Array.from({ length: 40 }, (_, i) => (i === 1 ? NaN : i / 3)),
    2,
  );
  expect(groups).toHaveLength(16);
  expect(groups[0]).toEqual({ prompt: 'p0'.padEnd(80, 'x') + '…', rewards: [0, null] });
  expect(groups[1]!.rewards).toEqual([0.666667, 1]);
});

test('samples that are kept: best to worst, and the best of each followed prompt', () => {
  const samples = Array.from({ length: 12 }, (_, i): Sample => ({
    prompt: `p${i % 6}`,
    completion: `c${i}`,
    reward: i,
    advantage: 0,
    finishReason: 'stop',
  }));
  expect(stepSamples(samples).map((s) => s.reward)).toEqual([11, 7, 4, 0]);
  expect(stepSamples(samples, new Set(['p2', 'p5', 'none'])).map((s) => s.reward)).toEqual([11, 7, 4, 0, 8]); // p5's best is the best of all
});

test('a function that returned only nulls has no mean; completions without any reward are told once', async () => {
  const warnings: string[] = [];
  const warned = jest.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(String(text)));
  const trainDataset = Array.from({ length: 8 }, (_, i) => ({ prompt: `${i}+1=`, answer: String(i + 1) }));
  const silent: RewardFn = ({ completions, trainerState }) => completions.map((_, i) => (trainerState.step === 1 ? i % 2 : null));
  const config = { numGenerations: 4, perDeviceTrainBatchSize: 8, maxCompletionLength: 3, maxSteps: 3 };
  const stepsOf = async (rewardFuncs: GRPOTrainerOptions['rewardFuncs']) => {
    const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs, trainDataset, config });
    const steps: StepMetrics[] = [];
    for await (const { metrics } of trainer) steps.push(metrics);
    trainer.dispose();
    return steps.map((m) => m.rewards);
  };
  const both = await stepsOf([correctAnswer, silent]);
  expect(both.map((r) => Object.keys(r))).toEqual([['correctAnswer'], ['correctAnswer', 'silent'], ['correctAnswer']]);
  expect(both[1]!.silent!.mean).toBe(0.5);
  expect(warnings).toEqual([]);
  expect((await stepsOf(silent)).map((r) => Object.keys(r))).toEqual([[], ['silent'], []]);
  expect(warnings).toEqual([
    expect.stringMatching(
      /^Reward function 'silent' had nothing \(null\) to say about 8 of 8 completions \(the first prompt: "\d\+1="\): they teach nothing/,
    ),
  ]);
  warned.mockRestore();
});

test('a run keeps what the report shows: rewards by group, and the first prompts whenever they come again', async () => {
  const outputDir = join(folder, 'run');
  const trainDataset = Array.from({ length: 40 }, (_, i) => ({ prompt: `${i}+1=`, answer: String(i + 1) }));
  const config = { numGenerations: 4, perDeviceTrainBatchSize: 16, maxCompletionLength: 3, numTrainEpochs: 30, saveSteps: 0, outputDir };
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config });
  await trainer.train(); // 300 steps: samples of every sixth
  trainer.dispose();
  const lines = readFileSync(join(outputDir, 'samples.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l) as { step: number; samples: Sample[]; groups: RewardGroup[] }); // prettier-ignore
  for (const { groups } of lines) expect([groups.length, ...groups.map((g) => g.rewards.length)]).toEqual([4, 4, 4, 4, 4]);
  const followed = lines[0]!.samples.map((s) => s.prompt);
  const first = new Set(followed);
  const again = lines.filter((l) => l.samples.some((s) => first.has(s.prompt)));
  expect(again.length).toBeGreaterThan(25); // once in each of 30 epochs
  expect(lines.length).toBeLessThan(120); // still thinned out
});
