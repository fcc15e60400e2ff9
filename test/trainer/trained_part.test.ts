// Runs that train an adapter or a part of the model, on the bundled one.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCli } from '../../lib/cli/main.js';
import { arithmeticProblems, correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { mergeAdapter } from '../../lib/engine/merge.js';
import { Policy } from '../../lib/engine/policy.js';
import { presets } from '../../lib/presets.js';
import { grpoConfigOptions, type GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import { PPOTrainer } from '../../lib/trainer/ppo-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';
import type { StepMetrics } from '../../lib/trainer/types.js';
import { fake } from '../cli/fake.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'part-'))));
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;
const newFolder = () => join(folder, `run-${++runs}`);

const { train: trainDataset } = arithmeticProblems();
const lora: GRPOConfig = {
  numGenerations: 4,
  perDeviceTrainBatchSize: 32,
  maxCompletionLength: 4,
  learningRate: 1e-2,
  maxSteps: 4,
  saveSteps: 0,
  seed: 5,
  loraRank: 4,
};

async function run(config: GRPOConfig, more: Partial<GRPOTrainerOptions> = {}): Promise<StepMetrics[]> {
  const trainer = new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config, ...more });
  const metrics: StepMetrics[] = [];
  try {
    for await (const step of trainer) metrics.push(step.metrics);
  } finally {
    trainer.dispose();
  }
  return metrics;
}
/** What a step computed, without times. */
const numbers = ({ seconds: _s, tokensPerSecond: _t, peakMemoryBytes: _p, ...rest }: StepMetrics) => rest;
const bytes = (...path: string[]) => readFileSync(join(...path));
const weights = 'adapter_model.safetensors';

describe('GRPO with a LoRA adapter', () => {
  test('it learns, the base untouched', async () => {
    const policy = await Policy.load(demoModel());
    const base = await policy.native.parameters().promise;
    const config = { ...lora, numGenerations: 8, perDeviceTrainBatchSize: 512, maxSteps: 30, loraRank: 8 };
    const metrics = await run(config, { model: policy });
    const mean = (part: StepMetrics[]) => part.reduce((s, m) => s + m.reward, 0) / part.length;
    expect(mean(metrics.slice(-5))).toBeGreaterThan(mean(metrics.slice(0, 5)) + 0.1);
    expect(await policy.native.parameters().promise).toEqual(base);
    expect(policy.adapter).toMatchObject({ rank: 8, alpha: 16, useRslora: false });
    policy.dispose();
  });

  test('the reference is the base: as with a second copy of it', async () => {
    const config = { ...lora, beta: 0.1 };
    const own = await run(config);
    const copy = await run(config, { refModel: demoModel() });
    expect(Math.abs(own[0]!.kl!)).toBeLessThan(1e-9);
    expect(own[3]!.kl).toBeGreaterThan(1e-5);
    expect(own.map(numbers)).toEqual(copy.map(numbers));
  });

  test('checkpoints are small and resume bit for bit; the model is an adapter that opens, trains on and merges', async () => {
    const whole = newFolder();
    const config = { ...lora, numIterations: 2, beta: 0.05, gradientCheckpointing: true };
    const metrics = await run({ ...config, outputDir: whole });
    const part = newFolder();
    const stop = new Error('enough');
    const controller = new AbortController();
    const onStep = ({ step }: { step: number }) => void (step === 3 && controller.abort(stop));
    await expect(run({ ...config, outputDir: part }, { signal: controller.signal, onStep })).rejects.toBe(stop);
    const size = (file: string) => statSync(join(part, 'checkpoint-3', file)).size;
    const adapter = size(weights);
    expect(existsSync(join(part, 'checkpoint-3', 'model.safetensors'))).toBe(false);
    expect(adapter).toBeLessThan(0.2 * statSync(join(demoModel(), 'model.safetensors')).size);
    expect(size('trainer/optimizer.safetensors')).toBeLessThan(2.5 * adapter); // two moments

    await expect(run({ ...config, outputDir: part, resume: 'auto', loraRank: 5 })).rejects.toThrow(/loraRank|has an adapter of rank 4/);
    const rest = await run({ ...config, outputDir: part, resume: 'auto' });
    expect(rest.map(numbers)).toEqual(metrics.slice(3).map(numbers));
    expect(bytes(part, 'model', weights)).toEqual(bytes(whole, 'model', weights));

    const trained = await Policy.load(whole); // a run stands for its model
    expect(trained.adapter!.rank).toBe(4);
    expect((await trained.generate(['2+3=', '11+4='], { temperature: 0, maxNewTokens: 4 })).completions).toHaveLength(2);
    const f = fake();
    const ctx = { ...f.ctx, api: { ...f.ctx.api, merge: () => ({ mergeAdapter }) } };
    const merged = newFolder();
    expect(await runCli(['merge', '--adapter', whole, '--output', merged, '--json'], ctx)).toBe(0);
    expect(JSON.parse(f.out())).toEqual({ output: merged });
    const whole2 = await Policy.load(merged);
    const prompts = ['2+3=', '40+17='];
    const { completions } = await whole2.generate(prompts, { numGenerations: 3, maxNewTokens: 4, seed: 1 });
    const [a, b] = [await whole2.score(prompts, completions), await trained.score(prompts, completions)];
    a.logps.forEach((l, i) => l.forEach((x, t) => expect(Math.abs(x - b.logps[i]![t]!)).toBeLessThan(1e-4)));
    [trained, whole2].forEach((p) => p.dispose());
    expect(await runCli(['merge', '--adapter', whole, '--output', merged], ctx)).toBe(2);
    expect(f.err()).toMatch(/--output: .* is not empty/);
    expect(await runCli(['merge', '--adapter', merged, '--output', newFolder()], ctx)).toBe(2);
    expect(f.err()).toMatch(/is a whole model, not an adapter/);

    // A second run goes on with the adapter of the first.
    const next = newFolder();
    const { loraRank: _, ...plain } = lora;
    await run({ ...plain, maxSteps: 1, outputDir: next }, { model: join(whole, 'model') });
    const settings = JSON.parse(bytes(next, 'model', 'adapter_config.json').toString()) as object;
    expect(settings).toMatchObject({ r: 4, lora_alpha: 8, base_model_name_or_path: demoModel() });
    expect(bytes(next, 'model', weights).equals(bytes(whole, 'model', weights))).toBe(false);
  });

  test('with a reference that is renewed and rollouts drawn ahead it resumes bit for bit, from another place of the base', async () => {
    const moved = newFolder();
    cpSync(demoModel(), moved, { recursive: true });
    const config = { ...lora, beta: 0.1, refModelSyncSteps: 2, generateAhead: true, maxSteps: 5 };
    const whole = newFolder();
    const metrics = await run({ ...config, outputDir: whole });
    const part = newFolder();
    const controller = new AbortController();
    const onStep = ({ step }: { step: number }) => void (step === 3 && controller.abort(new Error('enough')));
    await expect(run({ ...config, outputDir: part }, { model: moved, signal: controller.signal, onStep })).rejects.toThrow('enough');
    const again = newFolder();
    renameSync(moved, again);
    const rest = await run({ ...config, outputDir: part, resume: 'auto' }, { model: again });
    expect(rest.map(numbers)).toEqual(metrics.slice(3).map(numbers));
    expect(bytes(part, 'model', weights)).toEqual(bytes(whole, 'model', weights));
  });

  test("PPO: the policy's adapter is trained, and the whole critic", async () => {
    const steps = async (config: object) => {
      const policy = await Policy.load(demoModel());
      const base = await policy.native.parameters().promise;
      const options = {
        perDeviceTrainBatchSize: 32,
        maxCompletionLength: 4,
        learningRate: 1e-2,
        maxSteps: 3,
        saveSteps: 0,
        seed: 5,
        loraRank: 4,
      };
      const trainer = new PPOTrainer({ model: policy, rewardFuncs: correctAnswer, trainDataset, config: { ...options, ...config } });
      const metrics: StepMetrics[] = [];
      for await (const step of trainer) metrics.push(step.metrics);
      trainer.dispose();
      expect(await policy.native.parameters().promise).toEqual(base);
      policy.dispose();
      return metrics.map(numbers);
    };
    const plain = await steps({});
    expect(await steps({ gradientCheckpointing: true })).toEqual(plain);
    expect(plain[2]!.gradNorm).toBeGreaterThan(0);
    expect(plain[2]!.valueLoss).not.toBe(plain[0]!.valueLoss);
  });

  test('gradient checkpointing changes no bit', async () => {
    const [a, b] = [await run(lora), await run({ ...lora, gradientCheckpointing: true, microBatchTokens: 8192 })];
    expect(b.map(numbers)).toEqual(a.map(numbers));
  });
});

test('from the command line: what it wrote is said', async () => {
  const f = fake();
  const [data, output, reward] = [join(folder, 'prompts.jsonl'), newFolder(), join(folder, 'reward.mjs')];
  writeFileSync(
    data,
    trainDataset
      .slice(0, 40)
      .map((row) => JSON.stringify(row) + '\n')
      .join(''),
  );
  writeFileSync(reward, '');
  const grpo = () => ({ ...f.ctx.api.grpo(), GRPOTrainer: GRPOTrainer as never, grpoConfigOptions, presets });
  const ctx = { ...f.ctx, api: { ...f.ctx.api, grpo }, importModule: async () => ({ default: correctAnswer }) };
  const flags = '--lora-rank 2 --lora-target-modules q_proj,v_proj --num-generations 4 --max-completion-length 4 --max-steps 1'.split(' ');
  expect(await runCli(['train', '--model', demoModel(), '--data', data, '--reward', reward, '--output', output, ...flags], ctx)).toBe(0);
  const model = join(output, 'model');
  expect(f.err()).toContain(`The model is a LoRA adapter: ${model}\n`);
  expect(f.err()).toContain(`npx fused-grpo merge --adapter ${model} --output`);
  expect(JSON.parse(bytes(model, 'adapter_config.json').toString())).toMatchObject({
    r: 2,
    lora_alpha: 4,
    target_modules: ['q_proj', 'v_proj'],
  });
});

describe('a part of the model', () => {
  test('the last layers of an SFT run; resuming needs the same part', async () => {
    const outputDir = newFolder();
    const options = {
      model: demoModel(),
      trainDataset: trainDataset.slice(0, 64).map(({ prompt, answer }) => ({ prompt, completion: answer })),
    };
    const config = { freezeLayers: 1, maxSteps: 3, learningRate: 1e-3, outputDir, perDeviceTrainBatchSize: 16 };
    const trainer = new SFTTrainer({ ...options, config });
    const before = await Policy.load(demoModel());
    await trainer.train();
    const [old, now] = await Promise.all([before, trainer.policy].map((p) => p.native.parameters().promise));
    const changed = old!.filter((t, i) => !Buffer.from(t.data.buffer).equals(Buffer.from(now![i]!.data.buffer))).map((t) => t.name);
    expect(changed.length).toBeGreaterThan(0);
    expect(changed.filter((name) => /embed|wte|wpe|\.0\./.test(name))).toEqual([]);
    [trainer, before].forEach((x) => x.dispose());
    const other = new SFTTrainer({ ...options, config: { ...config, freezeLayers: 2, maxSteps: 4, resume: 'auto' } });
    await expect(other.train()).rejects.toThrow(/freezeLayers was 1 and is now 2|at most the model's/);
    other.dispose();
  });

  test('patterns that match nothing', async () => {
    await expect(run({ ...lora, loraRank: undefined, trainableParameters: ['model.layers.99.*'] })).rejects.toThrow(
      /patterns that match parameters of the model.* for trainableParameters but received "model\.layers\.99\.\*"/,
    );
    await expect(run({ ...lora, loraTargetModules: ['query'] })).rejects.toThrow(/'all-linear' or some of .* for targetModules/);
  });
});

test('options that cannot go together, and what is refused by name', () => {
  const make = (config: object) => () =>
    new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { ...lora, ...config } });
  expect(make({ loraRank: undefined, loraAlpha: 3 })).toThrow(/loraAlpha needs loraRank/);
  expect(make({ trainableParameters: ['*'] })).toThrow(/no trainableParameters with it/);
  expect(make({ loraRank: undefined, trainableParameters: ['*'], freezeLayers: 1 })).toThrow(/give one of them/);
  expect(make({ loraRank: undefined, trainableParameters: [] })).toThrow(/at least one name for trainableParameters/);
  expect(make({ loraDropout: 0.05 })).toThrow(/loraDropout is not supported: this package never applies dropout/);
  expect(make({ loraModulesToSave: ['lm_head'] })).toThrow(/loraModulesToSave is not supported/);
  expect(make({ loraRank: 0 })).toThrow(/an integer of at least 1 for loraRank/);
  expect(make({ loraTargetModules: [1] })).toThrow(/an array of strings for loraTargetModules/);
});
