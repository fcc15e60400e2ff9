// RewardTrainer against TRL's (scripts/goldens/peers/trl_reward.py), and what a run must do: resume, evaluate, refuse bad rows.
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { Tokenizer } from '../../lib/engine/tokenizer.js';
import { RewardModel } from '../../lib/reward/reward-model.js';
import { encodeItem } from '../../lib/reward/texts.js';
import type { RewardConfig } from '../../lib/trainer/reward-config.js';
import { RewardTrainer, type RewardMetrics, type RewardTrainerOptions } from '../../lib/trainer/reward-trainer.js';
import type { Row } from '../../lib/trainer/dataset.js';
import { readTensors } from '../engine/scalar_support.js';

const goldenFolder = join(__dirname, '../golden/reward');
interface TrlCase {
  name: string;
  rows: Row[];
  kept: number;
  config: { center_rewards_coefficient?: number; pad_token?: string; max_length?: number };
  losses: number[];
  logs: { accuracy: number; margin: number; mean_reward: number; min_reward: number; max_reward: number; grad_norm: number }[];
  grads: Record<string, { norm: number; first: number[] }>;
}
const golden = JSON.parse(readFileSync(join(goldenFolder, 'trl.json'), 'utf8')) as {
  steps: number;
  learningRate: number;
  cases: TrlCase[];
  /** By kind of tokenizer. */
  tokens: Record<
    string,
    { rows: { prompt: string; chosen: string; rejected: string }[]; chosen: number[][]; rejected: number[][]; padTokenId: number }
  >;
};

let folder: string;
let runs = 0;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-reward-'))));
afterAll(() => rmSync(folder, { recursive: true }));
const newFolder = () => join(folder, `run-${++runs}`);

async function train(options: RewardTrainerOptions): Promise<RewardMetrics[]> {
  const trainer = new RewardTrainer(options);
  const all: RewardMetrics[] = [];
  try {
    for await (const { metrics } of trainer) all.push(metrics);
  } finally {
    trainer.dispose();
  }
  return all;
}
const numbers = ({ seconds: _s, tokensPerSecond: _t, peakMemoryBytes: _p, ...rest }: RewardMetrics) => rest;

describe('the numbers of TRL', () => {
  test.each(golden.cases.map((c) => [c.name, c] as const))('%s', async (_name, c) => {
    let model = join(goldenFolder, 'model');
    if (c.config.pad_token) {
      cpSync(model, (model = newFolder()), { recursive: true });
      const file = join(model, 'tokenizer_config.json');
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), pad_token: c.config.pad_token }));
    }
    const outputDir = newFolder();
    const config: RewardConfig = {
      ...{ perDeviceTrainBatchSize: c.kept, shuffleDataset: false, learningRate: golden.learningRate, lrSchedulerType: 'constant' },
      ...{ maxSteps: golden.steps, maxGradNorm: 0, saveSteps: 1, saveTotalLimit: 9, outputDir },
      centerRewardsCoefficient: c.config.center_rewards_coefficient ?? 0,
      ...(c.config.max_length ? { maxLength: c.config.max_length } : {}),
    };
    const metrics = await train({ model, trainDataset: c.rows, config });
    const close = (got: number, want: number, bound: number) =>
      expect(Math.abs(got - want) / Math.max(0.1, Math.abs(want))).toBeLessThan(bound);
    metrics.forEach((m, i) => {
      const want = c.logs[i]!;
      const bound = i === 0 ? 1e-5 : 1e-3; // later steps inherit rounding through Adam
      close(m.loss, c.losses[i]!, bound);
      expect(m.accuracy).toBeCloseTo(want.accuracy, 6);
      close(m.margin, want.margin, bound);
      close(m.meanReward, want.mean_reward, bound);
      close(m.minReward, want.min_reward, bound);
      close(m.maxReward, want.max_reward, bound);
      close(m.gradNorm, want.grad_norm, bound);
    });
    expect(metrics).toHaveLength(golden.steps);
    // Adam's first moment after the first step is a tenth of the gradient.
    const moments = readTensors(join(outputDir, 'checkpoint-1', 'trainer', 'optimizer.safetensors'));
    for (const [name, { norm, first }] of Object.entries(c.grads)) {
      const got = moments.get(`${name}.exp_avg`)!;
      close(10 * Math.hypot(...got), norm, 1e-5);
      first.forEach((g, i) => expect(Math.abs(10 * got[i]! - g)).toBeLessThan(1e-5 * Math.max(0.1, norm)));
    }
  });
});

describe('the tokens of TRL', () => {
  test.each(Object.keys(golden.tokens))('%s', (kind) => {
    const dir = join(__dirname, '../golden/tokenizers', kind);
    const want = golden.tokens[kind]!;
    const tokenizer = Tokenizer.load(dir)!;
    const source = { path: dir, tokenizer, chat: undefined, eosTokenIds: [], padTokenId: undefined, contextLength: 1000 };
    expect((tokenizer.specialToken('pad_token') ?? tokenizer.specialToken('eos_token'))!.id).toBe(want.padTokenId);
    for (const side of ['chosen', 'rejected'] as const)
      want.rows.forEach((row, i) =>
        expect([...encodeItem(source, { prompt: row.prompt, completion: row[side] }, 'row')]).toEqual(want[side][i]),
      );
  });
});

/** Sums; the right one is preferred. */
const sums = (n: number, from = 0): Row[] =>
  Array.from({ length: n }, (_, k) => {
    const [a, b] = [(7 * (k + from)) % 40, (3 * (k + from)) % 50];
    return { prompt: `${a}+${b}=`, chosen: `${a + b}`, rejected: `${a + b + 1 + (k % 5)}` };
  });

const small: RewardConfig = { perDeviceTrainBatchSize: 8, maxSteps: 6, learningRate: 1e-3, saveSteps: 0, seed: 3 };

describe('a run', () => {
  test('goes on bit for bit from a checkpoint, and writes a model that scores the same', async () => {
    const [whole, cut] = [newFolder(), newFolder()];
    const rows = sums(20);
    const all = await train({
      model: demoModel(),
      trainDataset: rows,
      evalDataset: sums(10, 100),
      config: { ...small, evalSteps: 2, outputDir: whole },
    });
    const first = new AbortController();
    const options = { model: demoModel(), trainDataset: rows, evalDataset: sums(10, 100) };
    const stopped = new RewardTrainer({
      ...options,
      config: { ...small, evalSteps: 2, outputDir: cut },
      signal: first.signal,
      onStep: ({ step }) => (step === 3 ? first.abort(new Error('enough')) : undefined),
    });
    await expect(stopped.train()).rejects.toThrow('enough');
    stopped.dispose();
    const rest = await train({ ...options, config: { ...small, evalSteps: 2, outputDir: cut, resume: 'auto' } });
    expect(rest.map(numbers)).toEqual(all.slice(3).map(numbers));
    const weights = (run: string) => readFileSync(join(run, 'model', 'model.safetensors'));
    expect(weights(cut).equals(weights(whole))).toBe(true);
    expect(all.map((m) => m.evalAccuracy !== undefined)).toEqual([false, true, false, true, false, true]);
    const lines = readFileSync(join(whole, 'metrics.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => numbers(JSON.parse(line) as RewardMetrics))).toEqual(all.map(numbers));
    // Evaluation after the last step is what the saved model gives.
    const model = await RewardModel.load(whole);
    const scores = await model.score(
      sums(10, 100).flatMap(({ prompt, chosen, rejected }) =>
        [chosen, rejected].map((c) => ({ prompt: prompt as string, completion: c as string })),
      ),
    );
    model.dispose();
    const margins = Array.from({ length: 10 }, (_, i) => scores[2 * i]! - scores[2 * i + 1]!);
    expect(margins.reduce((a, b) => a + b) / 10).toBeCloseTo(all[5]!.evalMargin!, 6);
    expect(margins.filter((m) => m > 0).length / 10).toBe(all[5]!.evalAccuracy);
  });

  test('micro-batches change nothing beyond rounding, and a pair is never cut', async () => {
    const options = { model: demoModel(), trainDataset: sums(20) };
    const [whole, cut] = [
      await train({ ...options, config: small }),
      await train({ ...options, config: { ...small, microBatchTokens: 1 } }),
    ];
    whole.forEach((m, i) => {
      expect(Math.abs(m.loss - cut[i]!.loss)).toBeLessThan(i === 0 ? 1e-6 : 1e-3);
      expect(Math.abs(m.gradNorm - cut[i]!.gradNorm) / m.gradNorm).toBeLessThan(i === 0 ? 1e-5 : 1e-2);
    });
  });

  test('evaluation is the loss of training on the same pairs: margins and centering included', async () => {
    const rows = sums(8).map((row, i) => ({ ...row, margin: i % 3 }));
    const config = { ...small, maxSteps: 1, learningRate: 0, centerRewardsCoefficient: 0.1 };
    const [m] = await train({ model: demoModel(), trainDataset: rows, evalDataset: rows, config });
    expect(Math.abs(m!.evalLoss! - m!.loss)).toBeLessThan(1e-6);
    expect(Math.abs(m!.evalMargin! - m!.margin)).toBeLessThan(1e-6);
    expect(m!.evalAccuracy).toBe(m!.accuracy);
  });

  test('a step that is not finite is left out, and the pair to blame written down', async () => {
    const outputDir = newFolder();
    const rows = sums(8).map((row, i) => (i === 5 ? { ...row, margin: 1e300 } : row)); // too large for float32
    const warnings: string[] = [];
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(String(text)));
    const config = { ...small, maxSteps: 3, perDeviceTrainBatchSize: 4, shuffleDataset: false, saveSteps: 1, saveTotalLimit: 3, outputDir };
    const metrics = await train({ model: demoModel(), trainDataset: rows, config });
    warned.mockRestore();
    expect(metrics.map((m) => Number.isFinite(m.loss))).toEqual([true, false, true]);
    expect(warnings.join()).toMatch(/step 2 was left out: .*; the pairs are in .*step-2\.json/);
    const { pairs } = JSON.parse(readFileSync(join(outputDir, 'non-finite', 'step-2.json'), 'utf8')) as { pairs: object[] };
    const { prompt, chosen, rejected } = rows[5]!;
    expect(pairs).toEqual([
      expect.objectContaining({
        index: 1,
        prompt,
        chosen,
        rejected,
        margin: 1e300,
        chosenTokens: expect.any(Array),
        why: expect.any(String),
      }),
    ]);
    const [before, after] = [1, 2].map((k) => readFileSync(join(outputDir, `checkpoint-${k}`, 'model.safetensors')));
    expect(before!.equals(after!)).toBe(true);
  });

  test('in bfloat16: learns, and goes on bit for bit', async () => {
    const rows = sums(8);
    const config: RewardConfig = { ...small, dtype: 'bfloat16', maxSteps: 40, learningRate: 1e-3 };
    const all = await train({ model: demoModel(), trainDataset: rows, config });
    expect(all[0]!.loss).toBeGreaterThan(0.6);
    expect(all[39]!.loss).toBeLessThan(0.3);
    const outputDir = newFolder();
    await train({
      model: demoModel(),
      trainDataset: rows,
      config: { ...config, maxSteps: 40, saveSteps: 10, saveTotalLimit: 9, outputDir },
    });
    for (const step of [40, 30]) rmSync(join(outputDir, `checkpoint-${step}`), { recursive: true });
    rmSync(join(outputDir, 'model'), { recursive: true });
    const rest = await train({ model: demoModel(), trainDataset: rows, config: { ...config, saveSteps: 10, outputDir, resume: 'auto' } });
    expect(rest.map(numbers)).toEqual(all.slice(20).map(numbers));
  });

  test('a model that is passed in stays alive and is the one that is trained', async () => {
    const model = await RewardModel.load(join(goldenFolder, 'model'));
    const text = ['Hello world'];
    const before = await model.score(text);
    const trainer = new RewardTrainer({ model, trainDataset: golden.cases[0]!.rows, config: small });
    await trainer.train();
    expect(trainer.model).toBe(model);
    trainer.dispose();
    expect(await model.score(text)).not.toEqual(before);
    model.dispose();
  });

  test('a stream with a number of steps is read as it comes, its long rows left out', async () => {
    async function* stream() {
      for (const row of [...sums(30), { prompt: '1+1=', chosen: '2'.repeat(100), rejected: '3' }, ...sums(30, 30)])
        yield await Promise.resolve(row);
    }
    const metrics = await train({ model: demoModel(), trainDataset: stream(), config: { ...small, maxSteps: 7 } });
    expect(metrics).toHaveLength(7);
  });
});

describe('rows', () => {
  const refused: [string, unknown, RegExp][] = [
    ['no chosen', { prompt: 'a', rejected: 'b' }, /row 1: there is no "chosen"; the row has prompt, rejected/],
    ['no rejected', { chosen: 'b' }, /row 1: there is no "rejected"/],
    ['a number', { chosen: 3, rejected: 'b' }, /row 1: "chosen" must be a string or a list/],
    ['text and messages', { chosen: 'a', rejected: [{ role: 'assistant', content: 'b' }] }, /must both be text or both be messages/],
    [
      'a text prompt before messages',
      { prompt: 'a', chosen: [{ role: 'user', content: 'b' }], rejected: [{ role: 'user', content: 'c' }] },
      /"prompt" is text, but/,
    ],
    ['an empty side', { chosen: '', rejected: 'b' }, /row 1: "chosen" is empty/],
    ['a margin of text', { chosen: 'a', rejected: 'b', margin: '1' }, /row 1: "margin" must be a number/],
    [
      'messages without a template',
      { chosen: [{ role: 'user', content: '1' }], rejected: [{ role: 'user', content: '2' }] },
      /row 1: .*has no chat template/,
    ],
    ['no object', null, /row 1: expected an object/],
  ];
  test.each(refused)('%s: the row is named', async (_name, row, message) => {
    await expect(train({ model: demoModel(), trainDataset: [sums(1)[0]!, row as Row], config: small })).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: expect.stringMatching(message),
    });
  });

  test('what is left out or teaches nothing is told; nothing left is an error', async () => {
    const warned = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const rows = [
      ...sums(8),
      { chosen: '1', rejected: '1' },
      { chosen: '1+'.repeat(40), rejected: '1' },
      { chosen: '1', rejected: '2'.repeat(99) },
    ];
    await train({ model: demoModel(), trainDataset: rows, config: { ...small, maxSteps: 1 } });
    expect(warned.mock.calls.map(([text]) => text)).toEqual([
      'trainDataset: 2 pair(s) with a side of more than 64 tokens were left out; 1 pair(s) have equal sides: they cannot be told apart and teach nothing',
    ]);
    warned.mockRestore();
    await expect(train({ model: demoModel(), trainDataset: sums(3), config: { ...small, maxLength: 2 } })).rejects.toThrow(
      'Every pair of the data set has a side of more than 2 tokens',
    );
  });

  test('options: what is wrong is named', () => {
    const make = (options: object) => () => new RewardTrainer(options as RewardTrainerOptions);
    expect(make({ model: 3, trainDataset: [] })).toThrow(/Expected a folder or a RewardModel for model/);
    expect(make({ model: 'x', trainDataset: [], evalDatset: [] })).toThrow(/did you mean 'evalDataset'/);
    expect(make({ model: 'x', trainDataset: [], config: { centerRewardCoefficient: 1 } })).toThrow(
      /did you mean 'centerRewardsCoefficient'/,
    );
    expect(make({ model: 'x', trainDataset: [], config: { resume: 'auto' } })).toThrow(/needs outputDir/);
  });
});

test('a reward model is no policy, and a policy no reward model', async () => {
  const outputDir = newFolder();
  await train({ model: demoModel(), trainDataset: sums(4), config: { ...small, maxSteps: 1, outputDir } });
  expect(existsSync(join(outputDir, 'model', 'tokenizer.json'))).toBe(true);
  await expect(Policy.load(outputDir)).rejects.toThrow(/Load it with RewardModel.load/);
  await expect(RewardModel.load(demoModel())).rejects.toThrow(/is no reward model/);
});
