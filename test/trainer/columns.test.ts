// columnMapping through whole trainers: training and evaluation data, config.json, and the same run again from it.
import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'columns '));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, rows: object[]) => {
  writeFileSync(join(folder, name), JSON.stringify(rows));
  return join(folder, name);
};
const problems = Array.from({ length: 8 }, (_, i) => ({ question: `${i}+1=`, solution: { value: String(i + 1) }, level: i }));

test('GRPO: prompts, columns of the rewards, evaluation; config.json says the mapping', async () => {
  const outputDir = join(folder, 'run');
  const seen: Record<string, unknown>[] = [];
  const trainer = new GRPOTrainer({
    model: demoModel(),
    rewardFuncs: ({ completions, trainerState: _, completionTokens: __, prompts, ...columns }) => {
      seen.push({ prompt: prompts[0], ...Object.fromEntries(Object.entries(columns).map(([k, v]) => [k, (v as unknown[])[0]])) });
      return completions.map((_c, i) => i % 2);
    },
    trainDataset: file('problems.json', problems),
    evalDataset: problems.slice(0, 2),
    columnMapping: { prompt: 'question', answer: 'solution.value' },
    config: { numGenerations: 4, perDeviceTrainBatchSize: 8, maxCompletionLength: 2, maxSteps: 1, shuffleDataset: false, outputDir },
  });
  await trainer.train();
  trainer.dispose();
  const first = { prompt: '0+1=', answer: '1', solution: { value: '1' }, level: 0 };
  expect(seen[0]).toEqual(first);
  expect(seen.at(-1)).toMatchObject({ answer: '1' }); // the evaluation's
  expect(seen.length).toBeGreaterThan(1);
  expect(JSON.parse(readFileSync(join(outputDir, 'config.json'), 'utf8'))).toMatchObject({
    columnMapping: { prompt: 'question', answer: 'solution.value' },
    trainDataset: join(folder, 'problems.json'),
  });
});

test('SFT and reward models', async () => {
  const rows = problems.map((p) => ({ instruction: p.question, output: p.solution.value, worse: '99' }));
  const sft = new SFTTrainer({
    ...{ model: demoModel(), trainDataset: rows, columnMapping: { prompt: 'instruction', completion: 'output' } },
    config: { maxSteps: 1 },
  });
  expect((await sft.train())!.step).toBe(1);
  sft.dispose();
  const mapping = { prompt: 'instruction', chosen: 'output', rejected: 'worse' };
  const reward = (columnMapping: Record<string, string>, maxSteps: number, trainDataset: unknown = file('pairs.json', rows)) =>
    new RewardTrainer({ model: demoModel(), trainDataset: trainDataset as object[] as never, columnMapping, config: { maxSteps } });
  for (const data of [
    undefined,
    rows,
    {
      [Symbol.asyncIterator]: async function* () {
        yield* rows;
      },
    },
  ]) {
    // prettier-ignore
    const trainer = reward(mapping, 1, data);
    expect((await trainer.train())!.step).toBe(1);
    trainer.dispose();
  }
  const wrong = reward({ ...mapping, chosen: 'better' }, 1);
  await expect(wrong.train()).rejects.toThrow(/pairs\.json: row 0: there is no column "better" \(columnMapping: chosen <- better\)/);
  wrong.dispose();
});
