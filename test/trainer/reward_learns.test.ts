// A reward model finds known utilities, and a policy trained on it finds what they favour.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { RewardModel } from '../../lib/reward/reward-model.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import { preferences, utility } from '../support/preferences.js';

let outputDir: string;
beforeAll(() => void (outputDir = mkdtempSync(join(tmpdir(), 'fg-reward-learns-'))));
afterAll(() => rmSync(outputDir, { recursive: true }));

test('at least 95 % of held-out pairs; scores order texts as their utilities do', async () => {
  const trainer = new RewardTrainer({
    model: demoModel(),
    trainDataset: preferences(2000, 1),
    evalDataset: preferences(1000, 2),
    config: { outputDir, maxSteps: 200, perDeviceTrainBatchSize: 32, learningRate: 1e-3, saveSteps: 0 },
  });
  const last = await trainer.train();
  trainer.dispose();
  expect(last!.metrics.evalAccuracy).toBeGreaterThanOrEqual(0.95);
  expect(last!.metrics.evalLoss).toBeLessThan(0.15);
  const model = await RewardModel.load(outputDir);
  const texts = preferences(100, 3).flatMap(({ chosen, rejected }) => [chosen, rejected]);
  const scores = await model.score(texts);
  model.dispose();
  const centered = (values: number[]) => {
    const mean = values.reduce((a, b) => a + b) / values.length;
    return values.map((v) => v - mean);
  };
  const [s, u] = [centered([...scores]), centered(texts.map(utility))];
  const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  expect(dot(s, u) / Math.sqrt(dot(s, s) * dot(u, u))).toBeGreaterThan(0.9); // correlation with the true utilities
});

test('GRPO on the reward model raises the utility that it never saw', async () => {
  const judge = await RewardModel.load(outputDir);
  const texts: number[][] = [];
  const trainer = new GRPOTrainer({
    model: demoModel(),
    rewardFuncs: [judge],
    trainDataset: Array.from({ length: 10 }, (_, digit) => ({ prompt: `${digit}` })),
    config: { numGenerations: 8, perDeviceTrainBatchSize: 80, maxCompletionLength: 5, learningRate: 1e-3, maxSteps: 40, saveSteps: 0 },
    onStep: ({ samples }) => void texts.push(samples.map(({ completion }) => utility(completion.replace(/\D/g, '')))),
  });
  await trainer.train();
  trainer.dispose();
  judge.dispose();
  const mean = (steps: number[][]) => steps.flat().reduce((a, b) => a + b, 0) / steps.flat().length;
  expect(mean(texts.slice(-5))).toBeGreaterThan(mean(texts.slice(0, 5)) + 2);
});
