// docs/metrics.md explains every number that a run writes, and no other.
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { PPOTrainer } from '../../lib/trainer/ppo-trainer.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';

const text = readFileSync(join(__dirname, '..', '..', 'docs', 'metrics.md'), 'utf8');

/** Names of the rows between two marks, each with its unit, meaning and judgement. */
function rowsOf(mark: string): Map<string, string[]> {
  const part = text.split(`<!-- ${mark} -->`)[1]!.split(`<!-- end of ${mark} -->`)[0]!;
  const cells = part.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
  return new Map(cells.filter((c) => c[1]?.startsWith('`')).map((c) => [c[1]!.slice(1, -1), c.slice(2, 5)]));
}

const keysOf = (value: object, path = ''): string[] =>
  Object.entries(value).flatMap(([key, inner]) =>
    inner !== null && typeof inner === 'object' ? keysOf(inner as object, `${path}${key}.`) : [path + key],
  );

test('every metric of a GRPO run is explained, and nothing else', async () => {
  const trainer = new GRPOTrainer({
    model: demoModel(),
    rewardFuncs: [correctAnswer],
    trainDataset: arithmeticProblems().train,
    config: { numGenerations: 4, perDeviceTrainBatchSize: 8, maxCompletionLength: 3, maxSteps: 1, beta: 0.1 },
  });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  const rows = rowsOf('grpo');
  const names = keysOf(metrics).map((key) => key.replace(/^rewards\.[^.]+\./, 'rewards.NAME.'));
  expect([...rows.keys()].sort()).toEqual([...names].sort());
  for (const [name, [, meaning]] of rows) expect([name, meaning!.length > 8]).toEqual([name, true]);
});

test('what dynamic sampling, a reward that failed and an evaluation add', async () => {
  const { train, heldOut } = arithmeticProblems();
  const trainer = new GRPOTrainer({
    model: demoModel(),
    rewardFuncs: [
      correctAnswer,
      function flaky() {
        throw new Error('no judge');
      },
    ],
    trainDataset: train,
    evalDataset: heldOut.slice(0, 4),
    config: {
      numGenerations: 4,
      perDeviceTrainBatchSize: 8,
      maxCompletionLength: 3,
      maxSteps: 1,
      beta: 0.1,
      dynamicSampling: true,
      rewardErrors: 'skip',
    },
  });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  const usual = rowsOf('grpo');
  const names = keysOf(metrics)
    .filter((key) => !usual.has(key) && !key.startsWith('rewards.'))
    .map((key) => key.replace(/^rewardFailures\..*/, 'rewardFailures.NAME'));
  expect([...rowsOf('more').keys()].sort()).toEqual(names.sort());
});

test("what PPO's critic adds", async () => {
  const config = { perDeviceTrainBatchSize: 8, maxCompletionLength: 3, maxSteps: 1 };
  const trainer = new PPOTrainer({ model: demoModel(), rewardFuncs: [correctAnswer], trainDataset: arithmeticProblems().train, config });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  const usual = rowsOf('grpo');
  const names = keysOf(metrics).filter((key) => !usual.has(key) && !key.startsWith('rewards.'));
  expect([...rowsOf('ppo').keys()].sort()).toEqual(names.sort());
});

test('every metric of a reward model is explained, and nothing else', async () => {
  const pairs = [{ better: '1+1=2', worse: '1+1=3' }];
  const trainer = new RewardTrainer({
    ...{ model: demoModel(), trainDataset: pairs, evalDataset: pairs, columnMapping: { chosen: 'better', rejected: 'worse' } },
    config: { maxSteps: 1, perDeviceTrainBatchSize: 1 },
  });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  expect([...rowsOf('reward').keys()].sort()).toEqual(keysOf(metrics).sort());
});

test('every metric of an SFT run is explained, and nothing else', async () => {
  const trainer = new SFTTrainer({ model: demoModel(), trainDataset: [{ prompt: '1+1=', completion: '2' }], config: { maxSteps: 1 } });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  expect([...rowsOf('sft').keys()].sort()).toEqual(keysOf(metrics).sort());
});
