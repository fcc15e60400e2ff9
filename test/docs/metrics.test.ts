// docs/metrics.md explains every number that a run writes, and no other.
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
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

test('every metric of an SFT run is explained, and nothing else', async () => {
  const trainer = new SFTTrainer({ model: demoModel(), trainDataset: [{ prompt: '1+1=', completion: '2' }], config: { maxSteps: 1 } });
  const { metrics } = (await trainer.train())!;
  trainer.dispose();
  expect([...rowsOf('sft').keys()].sort()).toEqual(keysOf(metrics).sort());
});
