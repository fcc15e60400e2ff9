// `eval` on the bundled model: the numbers are the trainer's own.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processContext, type CliContext } from '../../lib/cli/context.js';
import { runCli } from '../../lib/cli/main.js';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';

let folder: string;
const rows = arithmeticProblems().heldOut.slice(0, 60);
const wordy = (file: string, list: object[]) => writeFileSync(join(folder, file), list.map((row) => JSON.stringify(row)).join('\n'));
const REWARD = `export default ({ completions, answer }) => completions.map((c, i) => (typeof c === 'string' ? c : c[0].content).trim() === String(answer[i]) ? 1 : 0);`;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fused-grpo eval-'));
  wordy('rows.jsonl', rows);
  wordy('renamed.jsonl', rows.map(({ prompt, answer }) => ({ question: prompt, answer }))); // prettier-ignore
  wordy('chat.jsonl', [{ prompt: [{ role: 'user', content: '1+1=' }], answer: '2' }]);
  writeFileSync(join(folder, 'reward.mjs'), REWARD);
});
afterAll(() => rmSync(folder, { recursive: true }));

const importModule = async (path: string) => ({
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the module of the test
  default: new Function(readFileSync(path, 'utf8').replace('export default', 'return'))() as unknown,
});

async function cli(args: string[], more: Partial<CliContext> = {}) {
  let [out, err] = ['', ''];
  const ctx = {
    ...processContext(),
    cwd: folder,
    importModule, // jest has no import()
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text) },
    ...more,
  };
  const code = await runCli(['eval', ...args], ctx);
  return { code, out, err };
}
const args = (...more: string[]) => ['--model', demoModel(), '--data', 'rows.jsonl', '--reward', 'reward.mjs', ...more];
const json = async (...more: string[]) => {
  const { code, out, err } = await cli(args('--json', ...more));
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  return JSON.parse(out) as Record<string, number>;
};

test("the trainer's own numbers, whatever the batch", async () => {
  const config = {
    numGenerations: 4,
    perDeviceTrainBatchSize: 8,
    maxCompletionLength: 8,
    maxSteps: 1,
    temperature: 0.7,
    seed: 9,
    learningRate: 1e-12,
  };
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset: rows, evalDataset: rows, config });
  const step = await trainer.train();
  trainer.dispose();
  const { evalReward, evalRewardGreedy, evalPassGreedy, evalPassAt1, evalPassAtK } = step!.metrics;
  const flags = ['--num-generations', '4', '--max-completion-length', '8', '--temperature', '0.7', '--seed', '9'];
  const found = await json(...flags);
  expect(found).toMatchObject({ reward: evalReward, rewardGreedy: evalRewardGreedy, passGreedy: evalPassGreedy });
  expect(found).toMatchObject({ passAt1: evalPassAt1, passAtK: evalPassAtK, rows: 60, numGenerations: 4, temperature: 0.7, seed: 9 });
  expect(found.passAtK).toBeGreaterThan(found.passAt1!);
  const { seconds: _, ...again } = await json(...flags, '--batch-size', '7');
  expect(again).toEqual((({ seconds: _s, ...rest }) => rest)(found));
});

test('a table, with progress on stderr', async () => {
  const { code, out, err } = await cli(args('--num-generations', '2', '--batch-size', '20'));
  expect(code).toBe(0);
  expect(out).toMatch(
    /^60 rows, 2 samples each at temperature 1, 0:\d\d\n +passed +mean reward\n {2}greedy +\d+\.\d % +0\.\d+\n {2}pass@1 .*\n {2}pass@2 +\d+\.\d %\n$/,
  );
  expect(err).toMatch(/eval 60\/60 greedy \d+\.\d % pass@1 \d+\.\d % .* s\/row/);
});

test('--num-generations 0: the greedy completion alone; --limit; renamed columns', async () => {
  const all = await json('--num-generations', '0');
  expect(all).not.toHaveProperty('passAt1');
  expect(all.passGreedy).toBeGreaterThan(0.3);
  const { out } = await cli(args('--num-generations', '0'));
  expect(out).not.toContain('pass@');
  const some = await json('--num-generations', '0', '--limit', '10');
  expect(some).toMatchObject({ rows: 10 });
  expect(some.passGreedy! * 10).toBeCloseTo(Math.round(some.passGreedy! * 10), 9);
  const renamed = await json('--data', 'renamed.jsonl', '--column', 'prompt=question', '--num-generations', '0');
  expect(renamed).toMatchObject({ passGreedy: all.passGreedy, rewardGreedy: all.rewardGreedy });
});

test('built-in rewards, weights and the threshold', async () => {
  const found = await json('--reward', 'accuracy', '--reward-weights', '1,0.5', '--eval-pass-threshold', '0.5', '--num-generations', '1');
  expect(found).toMatchObject({ evalPassThreshold: 0.5 });
});

test('data without the column that a built-in reward reads are bad input: exit code 2', async () => {
  wordy('unanswered.jsonl', [{ prompt: '1+1=', result: '2' }]);
  const { code, err } = await cli(['--model', demoModel(), '--data', 'unanswered.jsonl', '--reward', 'accuracy']);
  expect(code).toBe(2);
  expect(err).toContain("accuracyReward needs a column 'solution' or 'answer' in the data set; it has 'result'");
});

describe('refused before anything is loaded', () => {
  const nothing = { ...processContext().api, evaluate: () => ({ ...processContext().api.evaluate(), evaluateModel: () => { throw new Error('evaluated'); } }) }; // prettier-ignore
  test.each<[string, string[], RegExp]>([
    ['no model', ['--data', 'rows.jsonl', '--reward', 'reward.mjs'], /'eval' needs --model DIR/],
    ['no reward', ['--model', 'x', '--data', 'rows.jsonl'], /'eval' needs --reward/],
    ['no such data', ['--model', demoModel(), '--data', 'gone.jsonl', '--reward', 'reward.mjs'], /--data: there is no file gone\.jsonl/],
    ['no such reward', ['--model', demoModel(), '--data', 'rows.jsonl', '--reward', 'acuracy'], /did you mean accuracy\?/],
    ['a temperature of 0', ['--temperature', '0'], /--temperature/],
    ['an option of training', ['--learning-rate', '1'], /Unknown option --learning-rate of 'eval'/],
  ])('%s', async (_, argv, message) => {
    const { code, err } = await cli(argv, { api: nothing });
    expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(message) as never });
  });
});

test('bad rows, chat rows without a template, prompts that do not fit: said with code 2 or 1', async () => {
  wordy('bad.jsonl', [{ question: 'x' }]);
  expect(await cli(args('--data', 'bad.jsonl'))).toMatchObject({
    code: 2,
    err: expect.stringContaining('bad.jsonl:1: there is no "prompt"'),
  });
  expect((await cli(args('--data', 'chat.jsonl'))).err).toContain('has no chat template');
  wordy('long.jsonl', [{ prompt: '1+'.repeat(300), answer: '1' }]);
  expect((await cli(args('--data', 'long.jsonl'))).err).toMatch(/has \d+ tokens; the model's context is \d+/);
});

test('Ctrl-C ends it with 130', async () => {
  let interrupt = () => undefined as void;
  const slow = `export default async () => { await new Promise((r) => setTimeout(r, 60000).unref()); return []; }`;
  writeFileSync(join(folder, 'slow.mjs'), slow);
  const onInterrupt = (listener: () => void) => ((interrupt = listener), () => undefined);
  setTimeout(() => interrupt(), 700);
  const { code, out } = await cli(['--model', demoModel(), '--data', 'rows.jsonl', '--reward', 'slow.mjs'], { onInterrupt });
  expect({ code, out }).toEqual({ code: 130, out: '' });
});
