// RewardModel: scores of texts, conversations and ids; as a reward function of GRPOTrainer.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arithmeticProblems } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { ModelReward, RewardModel, sharedPrompts } from '../../lib/reward/reward-model.js';
import { RunningMoments } from '../../lib/reward/transform.js';
import type { GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import type { RewardInput } from '../../lib/trainer/reward-types.js';
import { RewardTrainer } from '../../lib/trainer/reward-trainer.js';
import type { StepMetrics } from '../../lib/trainer/types.js';
import { goldenModels } from '../engine/support.js';

const goldenModel = join(__dirname, '../golden/reward/model');
let folder: string;
let model: RewardModel;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fg-reward-model-'));
  model = await RewardModel.load(goldenModel);
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });

describe('score', () => {
  test('a text is its prompt and completion; the end token is added once; ids are taken as they are', async () => {
    const { tokenizer } = model.scalar;
    const [a, b, c, d, e] = await model.score([
      'Hello world, hello there.',
      { prompt: 'Hello world,', completion: ' hello there.' },
      { completion: 'Hello world, hello there.<|im_end|>' },
      tokenizer!.encode('Hello world, hello there.<|im_end|>'),
      { prompt: tokenizer!.encode('Hello'), completion: Int32Array.of(5, 6) },
    ]);
    expect([b, c, d]).toEqual([a, a, a]);
    expect(e).not.toBe(a);
  });

  test('a conversation goes through the chat template; an answer to a chat prompt may be text', async () => {
    const [a, b, c, d] = await model.score([
      [user('Hello'), assistant('world')],
      { prompt: [user('Hello')], completion: [assistant('world')] },
      { prompt: [user('Hello')], completion: 'world' },
      [user('Hello'), assistant('word')],
    ]);
    expect([b, c]).toEqual([a, a]);
    expect(d).not.toBe(a);
  });

  test('a score does not depend on what is scored beside it', async () => {
    const texts = Array.from({ length: 40 }, (_, i) => 'The quick brown fox jumps over the lazy dog. '.slice(0, 3 + ((7 * i) % 40)) + i);
    const together = await model.score(texts);
    for (const [i, text] of texts.entries()) {
      const [alone] = await model.score([text]);
      expect(Math.abs(alone! - together[i]!)).toBeLessThan(2e-6);
    }
    expect(await model.score([])).toEqual(new Float64Array());
  });

  test('errors name the item; abort and dispose are obeyed', async () => {
    await expect(model.score(['a', 'word '.repeat(200)])).rejects.toMatchObject({
      code: 'ERR_CONTEXT_LENGTH',
      message: expect.stringMatching(/^items\[1\] has \d+ tokens, but the reward model's context has 128/),
    });
    await expect(model.score(['a', 3 as never])).rejects.toThrow(/items\[1\]/);
    await expect(model.score([{ prompt: 'a', completion: Int32Array.of(1) }])).rejects.toThrow(/must both be text/);
    await expect(model.score([{ prompt: 'a', completion: [assistant('b')] }])).rejects.toThrow(/needs a prompt of chat messages/);
    await expect(model.score(['a'], { sgnal: 1 } as never)).rejects.toThrow(/did you mean 'signal'/);
    await expect(model.score(['a'], { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    const other = await RewardModel.load(goldenModel);
    const many = other.score(Array.from({ length: 2000 }, (_, i) => 'word '.repeat(20) + i));
    other.dispose();
    await expect(many).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(other.score(['a'])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(RewardModel.load(join(goldenModels, 'llama'))).rejects.toThrow(/is no reward model: config.json names LlamaForCausalLM/);
    await expect(RewardModel.load(goldenModel, { transform: 'tanh' as never })).rejects.toThrow(/'none', 'sigmoid' or 'normalize'/);
  });

  test('the beginning of neighbours is found', () => {
    const a = Int32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    const b = Int32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]);
    const c = Int32Array.from([1, 2, 9]);
    expect([...sharedPrompts([a, b, a, c, a])]).toEqual([9, 9, 9, 1, 1]);
    expect([...sharedPrompts([a, a])]).toEqual([10, 10]);
    expect([...sharedPrompts([])]).toEqual([]);
  });
});

describe('transforms', () => {
  const input = { prompts: ['Hello', 'Hello'], completions: [' world', ' there'] } as unknown as RewardInput;

  test('none, sigmoid and normalize of the same scores', async () => {
    const [x, y] = await model.score(['Hello world', 'Hello there']);
    const apply = async (transform: 'none' | 'sigmoid' | 'normalize') => {
      const other = await RewardModel.load(goldenModel, { transform });
      const values = await new ModelReward(other).score(input);
      other.dispose();
      return [...values];
    };
    expect(await apply('none')).toEqual([x, y]);
    expect(await apply('sigmoid')).toEqual([1 / (1 + Math.exp(-x!)), 1 / (1 + Math.exp(-y!))]);
    const [p, q] = await apply('normalize');
    expect(p).toBeCloseTo(Math.sign(x! - y!) * Math.SQRT1_2, 12);
    expect(q).toBeCloseTo(-p!, 12);
  });

  test('running moments are those of everything seen, and survive as JSON', () => {
    const all = Float64Array.from({ length: 30 }, (_, i) => 100 + Math.sin(3 * i));
    const mean = all.reduce((a, b) => a + b) / 30;
    const std = Math.sqrt(all.reduce((s, v) => s + (v - mean) ** 2, 0) / 29);
    const first = new RunningMoments();
    first.normalize(all.slice(0, 11));
    const second = new RunningMoments();
    second.state = JSON.parse(JSON.stringify(first.state));
    const got = second.normalize(all.slice(11));
    got.forEach((v, i) => expect(v).toBeCloseTo((all[11 + i]! - mean) / std, 10));
    expect(new RunningMoments().normalize(Float64Array.of(5, 5))).toEqual(Float64Array.of(0, 0));
    expect(() => (second.state = {})).toThrow(/has no statistics of the reward model/);
  });
});

describe('in GRPOTrainer', () => {
  const { train: trainDataset } = arithmeticProblems();
  const config: GRPOConfig = {
    ...{ numGenerations: 4, perDeviceTrainBatchSize: 16, maxCompletionLength: 4, learningRate: 1e-3, maxSteps: 4 },
    ...{ saveSteps: 0, seed: 5, numIterations: 2 },
  };
  const numbers = ({ seconds: _s, tokensPerSecond: _t, peakMemoryBytes: _p, ...rest }: StepMetrics) => rest;
  let trained: string;
  beforeAll(async () => {
    trained = join(folder, 'judge');
    const rows = Array.from({ length: 40 }, (_, k) => ({ prompt: `${k}+7=`, chosen: `${k + 7}`, rejected: `${k + 9}` }));
    const trainer = new RewardTrainer({
      model: demoModel(),
      trainDataset: rows,
      config: { outputDir: trained, maxSteps: 5, learningRate: 1e-3, saveSteps: 0 },
    });
    await trainer.train();
    trainer.dispose();
  });

  async function run(judge: RewardModel, more: GRPOConfig, stopAt?: number): Promise<StepMetrics[]> {
    const controller = new AbortController();
    const trainer = new GRPOTrainer({
      model: demoModel(),
      rewardFuncs: [judge, ({ completions }) => completions.map(() => 0)],
      trainDataset,
      config: { ...config, ...more },
      signal: controller.signal,
      onStep: ({ step }) => (step === stopAt ? controller.abort(new Error('enough')) : undefined),
    });
    const all: StepMetrics[] = [];
    try {
      for await (const { metrics } of trainer) all.push(metrics);
    } catch (error) {
      if (stopAt === undefined) throw error;
    } finally {
      trainer.dispose();
    }
    return all;
  }

  test('it is called like a function, named after its folder, and stays alive', async () => {
    const judge = await RewardModel.load(trained);
    const metrics = await run(judge, {});
    expect(Object.keys(metrics[0]!.rewards)).toEqual(['judge', 'reward1']);
    expect(metrics[0]!.reward).toBeCloseTo(metrics[0]!.rewards['judge']!.mean, 10);
    expect(metrics[0]!.rewards['judge']!.std).toBeGreaterThan(0);
    expect(await judge.score(['1+1=2'])).toHaveLength(1);
    judge.dispose();
  });

  test.each([1, 2])('normalize: a run stopped after step %p goes on bit for bit', async (stop) => {
    const judge = await RewardModel.load(trained, { transform: 'normalize' });
    const all = await run(judge, {});
    const outputDir = join(folder, `normalized-${stop}`);
    await run(judge, { outputDir }, stop);
    const state = JSON.parse(readFileSync(join(outputDir, `checkpoint-${stop}`, 'trainer', 'state.json'), 'utf8')) as { state: string };
    expect((JSON.parse(state.state) as { rewards: { count: number }[] }).rewards[0]!.count).toBe(16);
    const rest = await run(judge, { outputDir, resume: 'auto' });
    expect(rest.map(numbers)).toEqual(all.slice(stop).map(numbers));
    judge.dispose();
  });

  test('normalize: scores of a rollout that was never finished do not count', async () => {
    const judge = await RewardModel.load(trained, { transform: 'normalize' });
    const outputDir = join(folder, 'unfinished');
    const trainer = new GRPOTrainer({
      model: demoModel(),
      rewardFuncs: [
        judge,
        async ({ completions, trainerState }) => {
          await new Promise((resolve) => setTimeout(resolve, 100)); // the model has scored by then
          if (trainerState.step === 2) throw new Error('no more');
          return completions.map(() => 0);
        },
      ],
      trainDataset,
      config: { ...config, outputDir },
    });
    await expect(trainer.train()).rejects.toThrow(/no more/);
    trainer.dispose();
    judge.dispose();
    const state = JSON.parse(readFileSync(join(outputDir, 'checkpoint-2', 'trainer', 'state.json'), 'utf8')) as { state: string };
    expect((JSON.parse(state.state) as { rewards: { count: number }[] }).rewards[0]!.count).toBe(16);
  });
});
