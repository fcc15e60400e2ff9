// Training by several processes is training by one with the same global batch: losses and gradients of the first step, weights at the end.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { demoModel, numbersOf, runRanks, type Job, type RankResult } from './support.js';

let folder: string;
let count = 0;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-ranks-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const base = { numGenerations: 4, maxSteps: 20, learningRate: 1e-4, maxCompletionLength: 8, saveSteps: 0, ddpTimeout: 20 };

/** `completions`: of all ranks together. */
async function train(worldSize: number, completions: number, job: Job): Promise<{ ranks: RankResult[]; output: string }> {
  const output = join(folder, String(count++));
  const config = { ...base, outputDir: output, ...job.config, perDeviceTrainBatchSize: completions / worldSize };
  const ranks = await runRanks(worldSize, { ...job, config });
  for (const [rank, r] of ranks.entries()) expect([rank, r.error]).toEqual([rank, undefined]);
  return { ranks, output };
}

/** |a - b| / |b| over all weights of two runs. */
function distance(a: string, b: string): number {
  const [x, y] = [a, b].map((output) => numbersOf(join(output, 'model/model.safetensors')));
  let difference = 0;
  let size = 0;
  y!.forEach((v, i) => {
    difference += (v - x![i]!) ** 2;
    size += v * v;
  });
  return Math.sqrt(difference / size);
}

const close = (a: number, b: number, bound: number) => expect(Math.abs(a - b)).toBeLessThanOrEqual(bound * Math.max(Math.abs(b), 1e-3));

async function compare(worldSizes: number[], completions: number, job: Job, metrics: string[], bound = 1e-5): Promise<string[]> {
  const one = await train(1, completions, job);
  const outputs = [one.output];
  for (const worldSize of worldSizes) {
    const { ranks, output } = await train(worldSize, completions, job);
    outputs.push(output);
    for (const { steps } of ranks) {
      expect(steps).toHaveLength(one.ranks[0]!.steps.length);
      for (const name of metrics) close(steps[0]!.metrics[name]!, one.ranks[0]!.steps[0]!.metrics[name]!, 1e-6);
    }
    expect([worldSize, distance(output, one.output) < bound]).toEqual([worldSize, true]);
  }
  return outputs;
}

describe('as one process', () => {
  test('GRPO at 2, 3 and 4 ranks, six prompts (over four ranks: unevenly)', async () => {
    await compare([2, 3, 4], 24, { config: {} }, ['loss', 'gradNorm', 'reward', 'entropy', 'tokens']);
  }, 180_000);

  test('what the exchange costs is measured, and explained in docs/metrics.md', async () => {
    const { ranks } = await train(2, 8, { config: { maxSteps: 2 } });
    const { count, bytes, waiting, exchanging } = ranks[0]!.steps[1]!.metrics.ranks as unknown as Record<string, number>;
    const parameters = numbersOf(join(demoModel, 'model.safetensors')).length;
    expect(count).toBe(2);
    expect(bytes).toBeGreaterThanOrEqual(4 * parameters);
    expect(bytes).toBeLessThan(4 * parameters * 1.1 + 10_000);
    for (const seconds of [waiting!, exchanging!]) expect(seconds >= 0 && seconds < 5).toBe(true);
    const text = readFileSync(join(__dirname, '../../docs/metrics.md'), 'utf8');
    for (const name of ['count', 'bytes', 'waiting', 'exchanging']) expect(text).toContain(`| \`ranks.${name}\` |`);
  }, 60_000);

  test('more ranks than prompts: some have nothing to sample', async () => {
    await compare([4], 8, { config: { maxSteps: 5 } }, ['loss', 'gradNorm', 'reward']);
  }, 120_000);

  const variants: [string, Job][] = [
    [
      'a reference, two iterations, minibatches',
      { config: { beta: 0.05, numIterations: 2, stepsPerGeneration: 2, gradientAccumulationSteps: 1 } },
    ],
    ['statistics of the batch, dynamic sampling', { config: { scaleRewards: 'batch', dynamicSampling: true, maxSteps: 8 } }],
    ['rewards on rank 0, sequences, ahead', { config: { gatherRewards: true, importanceSamplingLevel: 'sequence', generateAhead: true } }],
    ['an adapter', { config: { loraRank: 4, beta: 0.02 } }],
    ['an evaluation', { evaluate: true, config: { evalSteps: 4, maxSteps: 8 } }],
    ['the unfused loss', { config: { fused: false, maxSteps: 5 } }],
  ];
  test.each(variants)(
    'GRPO with %s',
    async (_, job) => {
      if (job.config.loraRank) {
        const runs = [await train(1, 16, job), await train(2, 16, job)];
        for (const step of [0, 19])
          close(runs[1]!.ranks[0]!.steps[step]!.metrics.gradNorm!, runs[0]!.ranks[0]!.steps[step]!.metrics.gradNorm!, 1e-4);
        return;
      }
      const metrics = ['loss', 'gradNorm', 'reward', ...(job.config.beta ? ['kl'] : [])];
      const [one, two] = await compare([2], 16, job, metrics);
      if (!job.evaluate) return;
      const evaluations = [one!, two!].map((o) =>
        readFileSync(join(o, 'metrics.jsonl'), 'utf8')
          .trim()
          .split('\n')
          .map((l) => (JSON.parse(l) as { evalReward?: number }).evalReward),
      );
      expect(evaluations[0]!.filter((e) => e !== undefined)).toHaveLength(2);
      evaluations[0]!.forEach((e, i) => e !== undefined && close(evaluations[1]![i]!, e, 1e-6));
    },
    180_000,
  );

  test('PPO: the critic, too', async () => {
    await compare([2], 16, { trainer: 'ppo', config: { numGenerations: 1, maxSteps: 10 } }, [
      'loss',
      'gradNorm',
      'valueLoss',
      'explainedVariance',
    ]);
  }, 120_000);

  test('SFT', async () => {
    const config = { numGenerations: undefined, maxCompletionLength: undefined };
    await compare([3], 9, { trainer: 'sft', config }, ['loss', 'gradNorm', 'tokens']);
  }, 120_000);

  test('reward models', async () => {
    const config = { numGenerations: undefined, maxCompletionLength: undefined, maxSteps: 10 };
    await compare([2], 8, { trainer: 'reward', evaluate: true, config }, ['loss', 'gradNorm', 'accuracy', 'margin', 'meanReward']);
  }, 120_000);

  test('bfloat16 stays near', async () => {
    await compare([2], 16, { config: { dtype: 'bfloat16', maxSteps: 5 } }, ['reward'], 1e-3);
  }, 120_000);
});

describe('exactly', () => {
  const weights = (output: string) => readFileSync(join(output, 'model/model.safetensors'));

  test('two runs of as many ranks have the same bits; one with a sharded optimizer as well, where sums have two terms', async () => {
    for (const worldSize of [2, 3]) {
      const job = { config: { maxSteps: 8 } };
      const first = await train(worldSize, 24, job);
      const second = await train(worldSize, 24, job);
      expect(weights(second.output).equals(weights(first.output))).toBe(true);
      const sharded = await train(worldSize, 24, { config: { ...job.config, shardOptimizer: true } });
      expect(distance(sharded.output, first.output)).toBeLessThan(1e-6);
      const optimizer = ({ output }: { output: string }) => readFileSync(join(output, 'checkpoint-8/trainer/optimizer.safetensors'));
      expect(optimizer(sharded)).toHaveLength(optimizer(first).length);
      if (worldSize > 2) continue;
      expect(weights(sharded.output).equals(weights(first.output))).toBe(true);
      expect(optimizer(sharded).equals(optimizer(first))).toBe(true);
    }
  }, 120_000);

  test('a run is continued by other numbers of ranks, with a sharded optimizer and without', async () => {
    const whole = await train(1, 24, { config: { maxSteps: 9 } });
    const output = join(folder, String(count++));
    const config = { ...base, outputDir: output, resume: 'auto', lrSchedulerType: 'linear', saveSteps: 3 };
    const stretch = async (worldSize: number, maxSteps: number, more: object) => {
      // The schedule is that of the whole run: it is interrupted, not shorter.
      const ranks = await runRanks(worldSize, {
        config: { ...config, maxSteps: 9, perDeviceTrainBatchSize: 24 / worldSize, ...more },
        ranks: maxSteps < 9 ? Object.fromEntries(Array.from({ length: worldSize }, (_, r) => [r, { leave: maxSteps }])) : undefined,
      });
      for (const r of ranks) expect(r.error).toBeUndefined();
      expect(ranks[0]!.steps.at(-1)!.step).toBe(maxSteps);
    };
    await stretch(2, 4, {}); // ends after step 4: that of step 3 is taken up
    await stretch(3, 7, { shardOptimizer: true });
    await stretch(1, 9, {});
    expect(distance(output, whole.output)).toBeLessThan(1e-5);
    const steps = readFileSync(join(output, 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((l) => (JSON.parse(l) as { step: number }).step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }, 120_000);
});
