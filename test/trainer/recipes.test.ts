// What GRPO's recipes add to a rollout: rewards of steps, dynamic sampling, a reference that is renewed, generation ahead of training.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { processAdvantages } from '../../lib/ops/process_advantages.js';
import { rolloutAdvantages } from '../../lib/trainer/advantages.js';
import { resolveGRPOConfig, type GRPOConfig } from '../../lib/trainer/config.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import type { RewardFn, RewardInput } from '../../lib/trainer/reward-types.js';
import { nameRewards, scoreRewards } from '../../lib/trainer/rewards.js';
import type { GRPOStep } from '../../lib/trainer/types.js';
import { newFolder, numbers, run as runSmall, small, trainDataset, weightsOf } from './support.js';

let policy: Policy;
beforeAll(async () => void (policy = await Policy.load(demoModel())));
afterAll(() => policy.dispose());

const run = (config: GRPOConfig, more: Partial<GRPOTrainerOptions> = {}) => runSmall({ saveSteps: 0, ...config }, more);

describe('process supervision', () => {
  const completion = (text: string) => {
    const tokens = policy.tokenizer!.encode(text, false);
    return { text: policy.decode(tokens), tokens, logps: new Float32Array(tokens.length), finishReason: 'stop' as const };
  };
  const input = (n: number) => ({ prompts: Array(n).fill('1+1='), completions: Array(n).fill('12') }) as unknown as RewardInput;

  test('positions as tokens and as characters are the same steps; advantages are those of processAdvantages', async () => {
    const completions = ['123', '45', '6', '7890'].map(completion);
    expect(completions.map((c) => c.tokens.length)).toEqual([3, 2, 1, 4]); // a token a character
    const rewards = [[1, 0], [0.5], [], [0, 0, 2]];
    const ends = [[0, 2], [1], [], [0, 1, 3]];
    const config = resolveGRPOConfig({ ...small, numGenerations: 2, perDeviceTrainBatchSize: 4 });
    const advantagesBy = async (at: (end: number) => object) => {
      const fn = (() => rewards.map((r, i) => ({ steps: r.map((reward, k) => ({ reward, ...at(ends[i]![k]!) })) }))) as unknown as RewardFn;
      const named = nameRewards(fn, [2]);
      const scored = await scoreRewards(named, input(4), { timeout: 1 });
      expect([...scored.byFunction[0]!]).toEqual([0.5, 0.5, NaN, 2 / 3]);
      return rolloutAdvantages(scored, completions, { policy, config, rewards: named }, []);
    };
    const byToken = await advantagesBy((lastToken) => ({ lastToken }));
    const byCharacter = await advantagesBy((last) => ({ end: last + 1 }));
    const wanted = processAdvantages({
      offsets: Int32Array.of(0, 3, 5, 6, 10),
      numGenerations: 2,
      stepRewards: rewards.flat(),
      stepEnds: Int32Array.of(0, 2, 4, 6, 7, 9),
      stepOffsets: Int32Array.of(0, 2, 3, 3, 6),
    });
    const flat = byToken.tokenAdvantages!.flatMap((a) => [...a]);
    flat.forEach((a, i) => expect(a).toBeCloseTo(2 * wanted.advantages[i]!, 6));
    expect(flat.some((a) => a !== 0)).toBe(true);
    expect(byCharacter).toEqual(byToken);
  });

  test.each([
    [[{ steps: [{ reward: 1 }] }], /step 0: either lastToken or end/],
    [[{ steps: [{ reward: NaN, end: 1 }] }], /reward is NaN/],
    [[{ steps: [{ reward: 1, end: 1.5 }] }], /end is 1.5/],
    [[{ steps: [{ reward: 1, end: 2 }, { reward: 1, end: 2 }] }], /step 1: end 2 does not come after/], // prettier-ignore
    [[{ steps: [{ reward: 1, end: 2 }, { reward: 1, lastToken: 3 }] }], /the same for all steps/], // prettier-ignore
    [[{ steps: [{ reward: 1, end: 2 }] }, 3], /steps for some completions and a number for completion 1/],
  ] as [unknown[], RegExp][])('bad steps: %j', async (values, message) => {
    const named = nameRewards(() => values as number[]);
    await expect(scoreRewards(named, input(values.length), { timeout: 1 })).rejects.toThrow(message);
  });

  test('in training: each digit judged; a position behind the end is an error', async () => {
    const digits: RewardFn = ({ completionTokens, ...columns }) =>
      completionTokens.map((tokens, i) => ({
        steps: [...tokens.keys()].map((lastToken) => ({
          reward: Number((columns.completions[i] as string)[lastToken] === '1'),
          lastToken,
        })),
      }));
    const steps = await run({ maxSteps: 2 }, { rewardFuncs: digits });
    expect(steps[0]!.metrics.gradNorm).toBeGreaterThan(0);
    const both = await run({ maxSteps: 1 }, { rewardFuncs: [digits, correctAnswer] });
    expect(Object.keys(both[0]!.metrics.rewards)).toEqual(['digits', 'correctAnswer']);
    const late: RewardFn = ({ completions }) => completions.map(() => ({ steps: [{ reward: 1, end: 99 }] }));
    await expect(run({ maxSteps: 1 }, { rewardFuncs: late })).rejects.toThrow(/'late', completion 0: a step ends at character 99/);
    await expect(run({ maxSteps: 1, scaleRewards: 'batch' }, { rewardFuncs: digits })).rejects.toThrow(
      /'digits' rewards steps: scaleRewards/,
    );
  });

  test('a checkpoint between two iterations keeps the advantages of tokens', async () => {
    const fn: RewardFn = ({ completionTokens }) =>
      completionTokens.map((tokens) => ({
        steps: [...tokens.keys()].map((lastToken) => ({ reward: (tokens[lastToken]! % 3) + lastToken, lastToken })),
      }));
    const config = { numIterations: 2, saveSteps: 1, saveTotalLimit: 9 };
    const [whole, parts] = [newFolder(), newFolder()];
    const a = await run({ ...config, outputDir: whole }, { rewardFuncs: fn });
    await run({ ...config, outputDir: parts }, { rewardFuncs: fn, onStep: ({ step }) => { if (step === 3) throw new Error('stop'); } }).catch(() => undefined); // prettier-ignore
    const b = await run({ ...config, outputDir: parts, resume: 'auto' }, { rewardFuncs: fn });
    expect(b.map((s) => numbers(s.metrics))).toEqual(a.slice(3).map((s) => numbers(s.metrics)));
    expect(weightsOf(parts).equals(weightsOf(whole))).toBe(true);
  });
});

describe('dynamic sampling', () => {
  // Groups of prompts with an even first digit are all equal.
  const half: RewardFn = ({ prompts, completionTokens }) =>
    completionTokens.map((tokens, i) => (Number((prompts[i] as string)[0]) % 2 === 0 ? 1 : tokens[0]! % 7));

  test('groups that teach nothing are replaced, bounded by maxResamples', async () => {
    const plain = await run({ maxSteps: 3 }, { rewardFuncs: half });
    const dynamic = await run({ maxSteps: 3, dynamicSampling: true, maxResamples: 8 }, { rewardFuncs: half });
    expect(plain.some((s) => s.metrics.fracRewardZeroStd > 0.2)).toBe(true);
    for (const { metrics, samples } of dynamic) {
      expect(metrics.fracRewardZeroStd).toBe(0);
      expect(samples.length).toBe(32);
      expect(metrics.groupsSampled).toBeGreaterThan(8);
    }
    const never = await run(
      { maxSteps: 1, dynamicSampling: true, maxResamples: 2 },
      { rewardFuncs: ({ prompts }) => prompts.map(() => 1) },
    );
    expect(never[0]!.metrics).toMatchObject({ fracRewardZeroStd: 1, groupsSampled: 24, gradNorm: 0 });
    expect(never[0]!.samples.length).toBe(32);
  });

  test('resumes bit for bit', async () => {
    const config = { dynamicSampling: true, saveSteps: 1, saveTotalLimit: 9 };
    const [whole, parts] = [newFolder(), newFolder()];
    const a = await run({ ...config, outputDir: whole }, { rewardFuncs: half });
    await run({ ...config, outputDir: parts }, { rewardFuncs: half, onStep: ({ step }) => { if (step === 2) throw new Error('stop'); } }).catch(() => undefined); // prettier-ignore
    const b = await run({ ...config, outputDir: parts, resume: 'auto' }, { rewardFuncs: half });
    expect(b.map((s) => numbers(s.metrics))).toEqual(a.slice(2).map((s) => numbers(s.metrics)));
  });
});

test('prompts drawn in parts get the samples of one call', async () => {
  const prompts = ['1+1=', '2+3=', '4+4='];
  const options = { numGenerations: 3, maxNewTokens: 4, seed: 7, step: 2 };
  const whole = await policy.generate(prompts, options);
  const part = await policy.generate(prompts.slice(1), { ...options, promptOffset: 1 });
  expect(part.completions.map((c) => [...c.tokens])).toEqual(whole.completions.slice(3).map((c) => [...c.tokens]));
});

test('iterative GRPO: right after a renewal the KL is 0 again', async () => {
  const steps = await run({ maxSteps: 6, beta: 0.1, refModelSyncSteps: 3, learningRate: 3e-3 });
  const kl = steps.map((s) => s.metrics.kl!);
  expect(kl[2]).toBeGreaterThan(1e-5);
  expect(Math.abs(kl[3]!)).toBeLessThan(1e-9);
  expect(kl[5]).toBeGreaterThan(1e-5);
  expect(() => new GRPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config: { refModelSyncSteps: 2 } })).toThrow(
    /refModelSyncSteps needs a beta/,
  );
});

describe('generation ahead', () => {
  test('the second rollout is of the policy before the first step; the ratio corrects for it', async () => {
    const [now, ahead] = [await run({ learningRate: 5e-3 }), await run({ learningRate: 5e-3, generateAhead: true })];
    expect(numbers(ahead[0]!.metrics)).toEqual(numbers(now[0]!.metrics));
    expect(ahead[1]!.metrics.ratio.max).toBeGreaterThan(1.01);
    expect(now[1]!.metrics.ratio).toEqual({ min: 1, mean: 1, max: 1 });
    const again = await run({ learningRate: 5e-3, generateAhead: true });
    expect(again.map((s) => numbers(s.metrics))).toEqual(ahead.map((s) => numbers(s.metrics)));
  });

  test.each([
    ['slow rewards: still being drawn when the run stops', 60],
    ['drawn already', 0],
  ])('resumes bit for bit, with a renewed reference: %s', async (_name, delay) => {
    const slow: RewardFn = async (input) => {
      await new Promise((resolve) => setTimeout(resolve, delay));
      return correctAnswer(input);
    };
    const config = { generateAhead: true, beta: 0.1, refModelSyncSteps: 2, maxSteps: 6, saveSteps: 1, saveTotalLimit: 9 };
    const [whole, parts] = [newFolder(), newFolder()];
    const a = await run({ ...config, outputDir: whole }, { rewardFuncs: slow });
    for (const at of [1, 2, 3, 5]) {
      const stop = ({ step }: GRPOStep) => {
        if (step === at) throw new Error('stop');
      };
      await run({ ...config, outputDir: parts, resume: 'auto' }, { rewardFuncs: slow, onStep: stop }).catch(() => undefined);
    }
    const b = await run({ ...config, outputDir: parts, resume: 'auto' }, { rewardFuncs: slow });
    expect(b.map((s) => numbers(s.metrics))).toEqual(a.slice(5).map((s) => numbers(s.metrics)));
    expect(weightsOf(parts).equals(weightsOf(whole))).toBe(true);
  });
});
