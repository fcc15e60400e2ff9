import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Loggers } from '../../lib/loggers/loggers.js';
import type { Logger } from '../../lib/loggers/types.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'loggers '));
afterAll(() => rmSync(folder, { recursive: true }));
const { train: trainDataset } = arithmeticProblems();
const config = { numGenerations: 4, perDeviceTrainBatchSize: 8, maxCompletionLength: 3, maxSteps: 3 };
const trainer = (loggers: unknown, more: object = {}) =>
  new GRPOTrainer({
    model: demoModel(),
    rewardFuncs: correctAnswer,
    trainDataset,
    config: { ...config, ...more },
    loggers: loggers as Logger[],
  });

const warnings: string[] = [];
beforeAll(() => {
  jest.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(String(text)));
});
afterAll(() => {
  jest.restoreAllMocks();
});

/** A logger that writes down what it is told. */
function notes(more: Partial<Logger> = {}) {
  const told: string[] = [];
  const logger: Logger = {
    onRunStart: async ({ kind, step, totalSteps, config: c }) =>
      void told.push(`start ${kind} ${step}/${totalSteps} ${String(c.maxSteps)}`),
    onStep: async (metrics, step) => void told.push(`step ${step} ${typeof metrics.loss} ${String(metrics.step)}`),
    onRunEnd: ({ status, step }) => void told.push(`end ${status} ${step}`),
    close: async () => void told.push('close'),
    ...more,
  };
  return { told, logger };
}

test('a run tells its loggers of its start, its steps in order and its end', async () => {
  const { told, logger } = notes();
  const outputDir = join(folder, 'run');
  const t = trainer([logger], { outputDir });
  await t.train();
  t.dispose();
  expect(told).toEqual(['start grpo 0/3 3', 'step 1 number 1', 'step 2 number 2', 'step 3 number 3', 'end finished 3', 'close']);
  expect(readFileSync(join(outputDir, 'metrics.jsonl'), 'utf8').trim().split('\n')).toHaveLength(3);
  const sft = notes();
  const s = new SFTTrainer({
    model: demoModel(),
    trainDataset: [{ prompt: '1+1=', completion: '2' }],
    config: { maxSteps: 2 },
    loggers: [sft.logger],
  });
  await s.train();
  s.dispose();
  expect(sft.told).toEqual(['start sft 0/2 2', 'step 1 number 1', 'step 2 number 2', 'end finished 2', 'close']);
});

test('a loop that is left is an end, and going on another start', async () => {
  const { told, logger } = notes();
  const t = trainer([logger]);
  for await (const step of t) if (step.step === 1) break;
  await t.train();
  t.dispose();
  expect(told).toEqual([
    'start grpo 0/3 3',
    'step 1 number 1',
    'end stopped 1',
    'close',
    'start grpo 1/3 3',
    'step 2 number 2',
    'step 3 number 3',
    'end finished 3',
    'close',
  ]);
});

test('a run that fails still ends its loggers', async () => {
  const { told, logger } = notes();
  const t = trainer([logger]);
  t.dispose();
  const failing = new GRPOTrainer({ model: demoModel(), rewardFuncs: () => [], trainDataset, config, loggers: [logger] });
  await expect(failing.train()).rejects.toThrow(/values for 8 completions/);
  failing.dispose();
  expect(told).toEqual(['start grpo 0/3 3', 'end stopped 0', 'close']);
});

describe('loggers that fail', () => {
  test('are warned about once, whatever they do, and the run and the others go on', async () => {
    warnings.length = 0;
    const bad = (): never => {
      throw new Error('no connection');
    };
    class Shaky implements Logger {
      onRunStart = bad;
      onStep = () => Promise.reject(new Error('later'));
      onRunEnd = bad;
      close = bad;
    }
    const good = notes();
    const t = trainer([new Shaky(), good.logger]);
    expect((await t.train())!.step).toBe(3);
    t.dispose();
    expect(good.told).toHaveLength(6);
    expect(warnings).toEqual(['The logger Shaky failed and the run goes on without what it missed: no connection']);
  });

  test('one that hangs is given ten seconds, once', async () => {
    warnings.length = 0;
    jest.useFakeTimers();
    try {
      let calls = 0;
      const loggers = new Loggers([{ name: 'slow', onStep: () => (++calls, new Promise(() => undefined)) }]);
      const first = loggers.step({}, 1);
      await jest.advanceTimersByTimeAsync(10_000);
      await first;
      await loggers.step({}, 2);
      await loggers.end({ status: 'finished', step: 2 });
      expect(calls).toBe(1);
      expect(warnings).toEqual([expect.stringMatching(/^The logger slow failed .* not settled within 10 s$/)]);
    } finally {
      jest.useRealTimers();
    }
  });
});

test.each([
  [{}, /an array of loggers for loggers/],
  [[null], /loggers\[0\]/],
  [[{}], /a function for loggers\[0\]\.onStep/],
  [[{ onStep: () => undefined, close: 3 }], /a function for loggers\[0\]\.close/],
])('loggers %j are refused', (loggers, message) => {
  expect(() => trainer(loggers)).toThrow(message);
});
