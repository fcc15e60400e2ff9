// `reward train`, `reward score`, and `train` with a reward model's folder.
import { expect, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCli } from '../../lib/cli/main.js';
import { fake, trainArgs, type Script } from './fake.js';

const rewardArgs = (...more: string[]) => ['reward', 'train', '--model', 'model', '--data', 'prompts.jsonl', '--output', 'run', ...more];

test('reward train: options reach the trainer', async () => {
  const script: Script = { steps: 2 };
  const f = fake(script);
  expect(await runCli(rewardArgs('--learning-rate', '1e-3', '--eval-data', 'prompts.jsonl', '--json'), f.ctx)).toBe(0);
  expect(script.seen).toMatchObject({
    model: join(f.folder, 'model'),
    trainDataset: join(f.folder, 'prompts.jsonl'),
    evalDataset: join(f.folder, 'prompts.jsonl'),
    config: { learningRate: 1e-3, outputDir: join(f.folder, 'run') },
  });
  expect(JSON.parse(f.out())).toMatchObject({ status: 'ok', steps: 2 });
});

const score = (f: ReturnType<typeof fake>, ...more: string[]) => runCli(['reward', 'score', '--model', 'model', ...more], f.ctx);

test('reward score: texts, with a prompt, from standard input', async () => {
  const script: Script = { steps: 0 };
  const f = fake(script);
  expect(await score(f, '--prompt', 'p', '--text', 'abc', '--text', '-', '--dtype', 'float32')).toBe(0);
  const expected = ['abc', 'from stdin'].map((completion) => JSON.stringify({ prompt: 'p', completion }).length);
  expect(f.out()).toBe(expected.join('\n') + '\n');
  expect(script.rewardModel).toEqual({ options: { device: 'auto', dtype: 'float32', signal: expect.any(AbortSignal) }, disposed: true });
});

test('reward score: rows of every kind; pairs have an accuracy', async () => {
  const f = fake();
  const rows = [{ text: 'abc' }, { messages: [{ role: 'user', content: 'x' }] }, { prompt: 'p', completion: 'c' }];
  writeFileSync(join(f.folder, 'rows.jsonl'), rows.map((r) => JSON.stringify(r)).join('\n'));
  expect(await score(f, '--data', 'rows.jsonl', '--json')).toBe(0);
  const scores = [5, JSON.stringify(rows[1]!.messages).length, JSON.stringify(rows[2]).length];
  expect(JSON.parse(f.out())).toEqual({ scores, rows: 3, mean: scores.reduce((a, b) => a + b) / 3 });

  const g = fake();
  const pairs = Array.from({ length: 600 }, (_, i) => ({ chosen: 'x'.repeat(i % 3), prompt: 'p', rejected: 'y' }));
  writeFileSync(join(g.folder, 'pairs.jsonl'), pairs.map((r) => JSON.stringify(r)).join('\n'));
  expect(await score(g, '--data', 'pairs.jsonl', '--json')).toBe(0);
  const out = JSON.parse(g.out()) as { scores: object[]; pairs: number; accuracy: number; margin: number };
  expect(out.scores).toHaveLength(600);
  expect([out.pairs, out.accuracy, out.margin]).toEqual([600, 1 / 3, 0]);
  expect(out.scores[599]).toEqual({ chosen: 32, rejected: 31 });
});

const bad: [string[], RegExp][] = [
  [['reward'], /'reward' is 'reward train' or 'reward score', each with its own --help/],
  [['reward', 'trian'], /'reward' is 'reward train' or 'reward score'/],
  [['reward', 'train'], /'reward train' needs --model DIR/],
  [rewardArgs('--eval-data', 'nowhere'), /--eval-data: there is no file nowhere/],
  [['reward', 'score', '--model', 'model'], /needs either --data FILE or --text TEXT/],
  [['reward', 'score', '--model', 'model', '--text', 'a', '--data', 'prompts.jsonl'], /needs either --data FILE or --text TEXT/],
  [['reward', 'score', '--model', 'model', '--data', 'prompts.jsonl'], /prompts.jsonl:1: expected { "text" }.*the row has prompt/],
  [['reward', 'score', '--model', 'model', '--data', 'prompts.jsonl', '--prompt', 'p'], /--prompt goes with --text/],
  [trainArgs('--reward-transform', 'sigmoid'), /--reward-transform goes with a reward model's folder/],
];
test.each(bad)('%j: exit 2', async (argv, message) => {
  const f = fake();
  expect(await runCli(argv, f.ctx)).toBe(2);
  expect(f.err()).toMatch(message);
});

test('help of a command of two words', async () => {
  for (const argv of [
    ['reward', 'score', '--help'],
    ['help', 'reward', 'score'],
  ]) {
    const f = fake();
    expect(await runCli(argv, f.ctx)).toBe(0);
    expect(f.out()).toContain('fused-grpo reward score — score texts');
  }
});

test("train: --reward may be a reward model's folder, which is freed after the run", async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  mkdirSync(join(f.folder, 'judge'));
  expect(await runCli(trainArgs('--reward', 'judge', '--reward-transform', 'sigmoid'), f.ctx)).toBe(0);
  expect(script.rewardModel).toEqual({ options: { transform: 'sigmoid' }, disposed: true });
  expect(script.seen!.rewardFuncs.at(-1)).toHaveProperty('score');
});
