import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { TensorBoardLogger, scalarsOf } from '../../lib/loggers/tensorboard.js';
import { crc32c, record, restartRecord, scalarsRecord, versionRecord } from '../../lib/loggers/tfrecord.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import type { StepMetrics } from '../../lib/trainer/types.js';
import { readEvents } from './events.js';

const folder = mkdtempSync(join(tmpdir(), 'board '));
afterAll(() => rmSync(folder, { recursive: true }));
const data = join(__dirname, '..', 'golden', 'data');

test('CRC-32C: the values of RFC 3720, B.4', () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

test("the bytes are those of TensorBoard's own writer", () => {
  const steps = JSON.parse(readFileSync(join(data, 'events.json'), 'utf8')) as { step: number; scalars: Record<string, number | null> }[];
  const t = 1700000000.25;
  const ours = Buffer.concat([
    versionRecord(t),
    restartRecord(t, 7),
    ...steps.map(({ step, scalars }, i) =>
      scalarsRecord(1700000001.5 + i, step, Object.fromEntries(Object.entries(scalars).map(([tag, v]) => [tag, v ?? NaN]))),
    ),
  ]);
  expect(ours.equals(readFileSync(join(data, 'events.tfevents')))).toBe(true);
});

test('metrics as tags', () => {
  const metrics = { step: 3, reward: 0.5, kl: NaN, clipRatio: { low: 0.1 }, rewards: { 'a/b': { mean: 1, std: 0 } }, name: 'x', list: [1] };
  expect(scalarsOf(metrics)).toEqual({
    'train/reward': 0.5,
    'train/kl': NaN,
    'clipRatio/low': 0.1,
    'rewards/a/b/mean': 1,
    'rewards/a/b/std': 0,
  });
});

test('the decoder of this test notices a flipped bit anywhere', () => {
  const good = record(Buffer.from('hello'));
  for (let i = 0; i < good.length * 8; ++i) {
    const bad = Buffer.from(good);
    bad[i >> 3]! ^= 1 << (i & 7);
    expect(() => readEvents(bad)).toThrow();
  }
});

test('a run writes every number of every step; one that is continued begins a file of its own and takes back what it repeats', async () => {
  const { train: trainDataset } = arithmeticProblems();
  const outputDir = join(folder, 'run');
  const config = { numGenerations: 4, perDeviceTrainBatchSize: 8, maxCompletionLength: 3, outputDir, reportTo: 'tensorboard' as const };
  const run = async (more: object) => {
    const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { ...config, ...more } });
    const metrics: StepMetrics[] = [];
    for await (const step of trainer) metrics.push(step.metrics);
    trainer.dispose();
    return metrics;
  };
  const first = await run({ maxSteps: 3 });
  const second = await run({ maxSteps: 5, resume: 'auto' });
  const files = readdirSync(join(outputDir, 'tensorboard')).sort();
  expect(files).toHaveLength(2);
  const [a, b] = files.map((file) => readEvents(readFileSync(join(outputDir, 'tensorboard', file))));
  expect(a![0]).toMatchObject({ version: 'brain.Event:2' });
  expect(b![1]).toMatchObject({ restart: true, step: 4 });
  const steps = [...a!, ...b!].filter((e) => e.scalars);
  expect(steps.map((e) => e.step)).toEqual([1, 2, 3, 4, 5]);
  [...first, ...second].forEach((metrics, i) => {
    const expected = scalarsOf(metrics as unknown as Record<string, unknown>);
    expect(Object.keys(steps[i]!.scalars!)).toEqual(Object.keys(expected));
    for (const [tag, value] of Object.entries(expected)) expect(steps[i]!.scalars![tag]).toBe(Math.fround(value));
    expect(Math.abs(steps[i]!.wallTime - Date.now() / 1000)).toBeLessThan(120);
  });
});

test('tensorboard needs a folder', () => {
  const make = () =>
    new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset: [], config: { reportTo: 'tensorboard' } });
  expect(make).toThrow("reportTo: 'tensorboard' needs outputDir");
});

test('the logger alone: a step without a start begins a file', () => {
  const logger = new TensorBoardLogger(join(folder, 'alone'), () => 1700000000);
  logger.onStep({ reward: 1 }, 1);
  const [file] = readdirSync(join(folder, 'alone'));
  expect(file).toMatch(/^events\.out\.tfevents\.1700000000\./);
  expect(readEvents(readFileSync(join(folder, 'alone', file!))).at(-1)).toMatchObject({ step: 1, scalars: { 'train/reward': 1 } });
});
