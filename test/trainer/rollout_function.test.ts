// Completions from elsewhere: a rollout function gives what the trainer's own sampling gives, and every mistake of one is told.
import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { Policy } from '../../lib/engine/policy.js';
import { resolveGRPOConfig, type GRPOConfig } from '../../lib/trainer/config.js';
import { ExternalSampler } from '../../lib/trainer/sampler.js';
import { GRPOTrainer, type GRPOTrainerOptions } from '../../lib/trainer/grpo-trainer.js';
import type { RolloutCompletion, RolloutFn, RolloutRequest, SyncedWeights } from '../../lib/trainer/rollout-function.js';
import type { GRPOStep } from '../../lib/trainer/types.js';
import { collect, evalDataset, logOf, newFolder, numbers, run, small, trainDataset, weightsOf } from './support.js';

/** A model elsewhere: it has what was handed over, and draws what the trainer would. */
function elsewhere(options: { logps?: boolean; every?: number } = {}) {
  const asked: RolloutRequest[] = [];
  const handed: Omit<SyncedWeights, 'signal'>[] = [];
  let policy: Policy | undefined;
  const rollout: RolloutFn = async (request) => {
    asked.push(request);
    const { temperature, topP, topK, minP, repetitionPenalty, maxCompletionLength, seed, step, promptOffset } = request.sampling;
    const { completions } = await policy!.generate(
      request.prompts.map((p) => p.tokens),
      {
        ...{ temperature, topP, topK, minP, repetitionPenalty, seed, step, promptOffset },
        ...{ numGenerations: request.numGenerations, maxNewTokens: maxCompletionLength, signal: request.signal },
      },
    );
    const all = completions.map(({ tokens, logps, finishReason }) => ({
      ...{ tokens, finishReason },
      ...(options.logps === false ? {} : { samplerLogps: logps }),
    }));
    return request.prompts.map((_, p) => all.slice(p * request.numGenerations, (p + 1) * request.numGenerations));
  };
  const hook = async ({ signal: _, ...weights }: SyncedWeights) => {
    handed.push(weights);
    const old = policy;
    policy = await Policy.load(weights.folder);
    old?.dispose();
  };
  const given = { rollout, syncWeights: { hook, ...(options.every === undefined ? {} : { every: options.every }) } };
  return { options: given, asked, handed, dispose: () => policy?.dispose() };
}

const rounded = (steps: GRPOStep[]) =>
  JSON.stringify(steps.map((s) => numbers(s.metrics)), (_, v: unknown) => (typeof v === 'number' ? (Math.abs(v) < 1e-5 ? 0 : Number(v.toPrecision(3))) : v)); // prettier-ignore

describe('the same run as with own sampling', () => {
  const cases: [string, GRPOConfig][] = [
    ['plain', {}],
    ['with evaluations', { evalSteps: 2, evalNumGenerations: 3, topP: 0.9, topK: 11 }],
    ['dynamic sampling', { dynamicSampling: true }],
    ['a KL, two iterations', { beta: 0.05, numIterations: 2, temperature: 0.9 }],
    ['a KL in the reward', { beta: 0.05, klInReward: true }],
    ['ahead of training', { generateAhead: true }],
  ];
  test.each(cases)(
    '%s: bit for bit without correction, to rounding with it',
    async (_name, config) => {
      const evaluated = config.evalSteps ? { evalDataset: evalDataset.slice(0, 12) } : {};
      const [own, other] = [newFolder(), newFolder()];
      const expected = await run({ ...config, outputDir: own }, evaluated);
      const there = elsewhere();
      await run({ ...config, outputDir: other, samplerImportanceSampling: 'none' }, { ...evaluated, ...there.options });
      expect(logOf(other)).toEqual(logOf(own));
      expect(weightsOf(other).equals(weightsOf(own))).toBe(true);
      there.dispose();
      const again = elsewhere();
      const corrected = await run(config, { ...evaluated, ...again.options });
      expect(rounded(corrected)).toBe(rounded(expected));
      again.dispose();
    },
    60000,
  );
});

describe('what the function is told', () => {
  test('prompts as rendered, sampling, versions and purposes', async () => {
    const there = elsewhere();
    const rows = [{ prompt: '1+2=', answer: '3' }, { prompt: '3+4=', answer: '7' }]; // prettier-ignore
    const config = { perDeviceTrainBatchSize: 8, maxSteps: 2, evalSteps: 2, evalNumGenerations: 2, topP: 0.5, shuffleDataset: false };
    await run(config, { trainDataset: rows, evalDataset: rows.slice(0, 1), ...there.options });
    const [first, second, greedy, sampled] = there.asked;
    const policy = await Policy.load(demoModel());
    expect(first!.prompts.map((p) => [p.kind, p.text, [...p.tokens], p.row])).toEqual(rows.map((r) => ['text', r.prompt, [...policy.encode(r.prompt)], r]));
    expect(first!.sampling).toEqual({ temperature: 1, topP: 0.5, topK: 0, minP: undefined, repetitionPenalty: 1, maxCompletionLength: 4, stopTokenIds: [...policy.eosTokenIds], seed: 42, step: 0, promptOffset: 0 });
    expect(first).toMatchObject({ purpose: 'train', numGenerations: 4, policyVersion: 0, syncedVersion: 0, trainerState: { step: 0, totalSteps: 2 } });
    expect(second).toMatchObject({ purpose: 'train', policyVersion: 1, syncedVersion: 1, sampling: { step: 1 }, trainerState: { step: 1 } });
    expect(greedy).toMatchObject({ purpose: 'eval', numGenerations: 1, policyVersion: 2, syncedVersion: 2, sampling: { temperature: 0, topP: 1 } });
    expect(sampled).toMatchObject({ purpose: 'eval', numGenerations: 2, sampling: { temperature: 1, topP: 0.5 } });
    const seeds = there.asked.flatMap((r) => r.prompts.map((p) => p.seed));
    expect(seeds.every((s) => Number.isInteger(s) && s >= 0 && s < 2 ** 31)).toBe(true);
    expect(new Set(seeds.slice(0, 5)).size).toBe(5);
    policy.dispose();
    there.dispose();
  }); // prettier-ignore

  test('it may keep and change what it is given', async () => {
    const there = elsewhere();
    const spoil: RolloutFn = async (request) => {
      const result = await there.options.rollout(structuredCloneWith(request));
      request.prompts.forEach((p) => p.tokens.fill(0));
      request.prompts.forEach((p) => (p.row.answer = 'x'));
      return result;
    };
    const structuredCloneWith = (r: RolloutRequest) => ({ ...r, prompts: r.prompts.map((p) => ({ ...p, tokens: p.tokens.slice() })) });
    expect(rounded(await run({ maxSteps: 2 }, { ...there.options, rollout: spoil }))).toBe(rounded(await run({ maxSteps: 2 })));
    there.dispose();
  });
});

describe('weights handed over', () => {
  test.each([
    [1, {}, [0, 1, 2, 3, 4, 5]],
    [3, {}, [0, 3]],
    [2, { numIterations: 3 }, [0, 3]],
    [2, { evalSteps: 3 }, [0, 2, 3, 5, 6]],
  ])('every %i steps, with %j: versions %j', async (every, more, versions) => {
    const there = elsewhere({ every });
    const outputDir = newFolder();
    await run({ maxSteps: 6, outputDir, ...more }, { evalDataset: 'evalSteps' in more ? evalDataset.slice(0, 2) : undefined, ...there.options });
    expect(there.handed.map((h) => h.policyVersion)).toEqual(versions);
    expect(there.handed[0]!.folder).toBe(join(outputDir, 'weights'));
    expect(there.asked.filter((r) => r.purpose === 'train').map((r) => r.syncedVersion)).toEqual(
      there.asked.filter((r) => r.purpose === 'train').map((r) => versions.filter((v) => v <= r.policyVersion).at(-1)),
    );
    there.dispose();
  }, 60000); // prettier-ignore

  test('a LoRA run hands over merged weights', async () => {
    const seen: { whole: boolean; same: boolean }[] = [];
    const there = elsewhere();
    const hook = async (weights: SyncedWeights) => {
      const policy = await Policy.load(weights.folder);
      const prompts = [trainer.policy.encode('12+7=')];
      const score = async (by: Policy) => (await by.score(prompts, ['19'])).logps[0]!;
      const [a, b] = [await score(policy), await score(trainer.policy)];
      seen.push({ whole: policy.adapter === undefined, same: a.every((v, i) => Math.abs(v - b[i]!) < 1e-4) });
      policy.dispose();
      await there.options.syncWeights.hook(weights);
    };
    const config: GRPOConfig = { ...small, maxSteps: 3, loraRank: 4, learningRate: 0.05 };
    const trainer: GRPOTrainer = new GRPOTrainer({
      ...{ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config, rollout: there.options.rollout, syncWeights: { hook } },
    });
    await collect(trainer);
    expect(seen).toEqual(Array.from({ length: 3 }, () => ({ whole: true, same: true })));
    there.dispose();
  });

  test('without outputDir the folder is temporary', async () => {
    const there = elsewhere();
    await run({ maxSteps: 1 }, there.options);
    expect(() => readFileSync(join(there.handed[0]!.folder, 'config.json'))).toThrow(/ENOENT/);
    there.dispose();
  });
});

describe('resuming, bit for bit', () => {
  /** A run that its rollout function ends after `calls` calls, then resumed; `every` and what is asked for as the whole run has them. */
  async function interrupted(config: GRPOConfig, every: number, calls: number, more: Partial<GRPOTrainerOptions> = {}) {
    const outputDir = newFolder();
    const there = elsewhere({ every });
    let made = 0;
    const rollout: RolloutFn = (request) => {
      if (++made > calls) throw new Error('the server is gone');
      return there.options.rollout(request);
    };
    await expect(run({ ...config, outputDir }, { ...more, ...there.options, rollout })).rejects.toMatchObject({
      code: 'ERR_ROLLOUT',
      message: expect.stringMatching(/^The rollout function threw: the server is gone \(rollout_function.test.ts:\d+/),
    });
    there.dispose();
    const again = elsewhere({ every });
    await run({ ...config, outputDir, resume: 'auto' }, { ...more, ...again.options });
    again.dispose();
    return { outputDir, again };
  }

  const cases: [string, GRPOConfig, number, number, boolean][] = [
    ['weights of each step', {}, 1, 3, false],
    ['older weights', {}, 3, 2, false],
    ['older weights, two iterations', { numIterations: 2 }, 3, 1, false],
    ['ahead of training', { generateAhead: true }, 1, 3, false],
    ['ahead of training, older weights', { generateAhead: true }, 3, 3, false],
    ['evaluations between', { evalSteps: 2, evalNumGenerations: 2 }, 3, 5, true],
    // the fourth training rollout, drawn ahead, while the evaluation after the second step is due; then in and after that evaluation
    ...[3, 4, 5, 6].map((calls): [string, GRPOConfig, number, number, boolean] => [
      `evaluations between, ahead, older weights, call ${calls}`,
      { evalSteps: 2, evalNumGenerations: 2, generateAhead: true },
      3,
      calls,
      true,
    ]),
  ];
  test.each(cases)('%s', async (_name, config, every, calls, evaluated) => {
    const all = { maxSteps: 7, saveSteps: 0, ...config };
    const more = evaluated ? { evalDataset: evalDataset.slice(0, 4) } : {};
    const whole = newFolder();
    const there = elsewhere({ every });
    await run({ ...all, outputDir: whole }, { ...more, ...there.options });
    there.dispose();
    const { outputDir, again } = await interrupted(all, every, calls, more);
    expect(again.asked.length).toBeLessThan(there.asked.length);
    expect(again.asked.map((r) => [r.purpose, r.policyVersion, r.syncedVersion, r.trainerState.step])).toEqual(
      there.asked.slice(-again.asked.length).map((r) => [r.purpose, r.policyVersion, r.syncedVersion, r.trainerState.step]),
    );
    expect(logOf(outputDir)).toEqual(logOf(whole));
    expect(weightsOf(outputDir).equals(weightsOf(whole))).toBe(true);
  }, 60000); // prettier-ignore

  test('a hook that throws ends the run, saved; the same command goes on', async () => {
    const [outputDir, whole] = [newFolder(), newFolder()];
    const there = elsewhere();
    const hook = (weights: SyncedWeights) => {
      if (weights.policyVersion === 2) throw new Error('no weights today');
      return there.options.syncWeights.hook(weights);
    };
    await expect(run({ outputDir }, { ...there.options, syncWeights: { hook } })).rejects.toThrow('The hook of syncWeights threw: no weights today');
    await run({ outputDir, resume: 'auto' }, there.options);
    await run({ outputDir: whole }, there.options);
    expect(weightsOf(outputDir).equals(weightsOf(whole))).toBe(true);
    there.dispose();
  }); // prettier-ignore
});

describe('masks', () => {
  /** The tokens of own sampling with two foreign ones put behind the first. */
  const withTool = (there: ReturnType<typeof elsewhere>, foreign: number[]): RolloutFn => async (request) => {
    const groups = await there.options.rollout({ ...request, sampling: { ...request.sampling, maxCompletionLength: 3 } });
    return groups.map((group) => group.map(({ tokens, samplerLogps, finishReason }): RolloutCompletion => {
      const [t, l] = [Array.from(tokens), Array.from(samplerLogps!)];
      return { finishReason, tokens: [t[0]!, ...foreign, ...t.slice(1)], samplerLogps: [l[0]!, null, NaN, ...l.slice(1)],
        mask: [1, false, 0, ...t.slice(1).map(() => true)], columns: { tool: 'said' } };
    }));
  }; // prettier-ignore

  test('foreign tokens are read, rewarded by their columns, and not trained', async () => {
    const there = elsewhere();
    const tools: unknown[] = [];
    const reward: GRPOTrainerOptions['rewardFuncs'] = (input) => (tools.push(...(input.tool as unknown[])), input.completionTokens.map((t) => (t.length % 3) + (t[0]! % 2)));
    const config: GRPOConfig = { maxSteps: 1, maxCompletionLength: 6, beta: 0.1, klInReward: true };
    const [step] = await run(config, { ...there.options, rollout: withTool(there, [5, 6]), rewardFuncs: reward });
    expect(tools).toEqual(Array.from({ length: 32 }, () => 'said'));
    expect(step!.metrics.completionLength.min).toBeGreaterThanOrEqual(3);
    expect(step!.metrics.kl).toBe(0); // the reference is the policy still: also where others' log-probs stand for 0
    // The ratio is 1 over the trained tokens; masked ones would bring their own log-probs of other positions.
    expect(step!.metrics.ratio.mean).toBe(1);
    there.dispose();
  }); // prettier-ignore

  test('the gradient is that of the selected tokens alone', async () => {
    // A completion that is masked but for its first token trains as one that has no other token, as attention looks back only.
    const outputs: [string, string] = [newFolder(), newFolder()];
    for (const [k, outputDir] of outputs.entries()) {
      const rollout: RolloutFn = ({ prompts, numGenerations }) =>
        prompts.map(() => Array.from({ length: numGenerations }, (_, g): RolloutCompletion =>
          k === 0 ? { tokens: [7 + g], finishReason: 'stop' } : { tokens: [7 + g, 9, 8], mask: [1, 0, 0], finishReason: 'stop' }));
      const rewardFuncs: GRPOTrainerOptions['rewardFuncs'] = ({ completionTokens }) => completionTokens.map((t) => t[0]! % 3);
      await run({ outputDir, maxSteps: 1, lossType: 'dapo', learningRate: 1e-2, microBatchTokens: 4096 }, { rollout, rewardFuncs });
    } // prettier-ignore
    const [a, b] = await Promise.all(outputs.map((o) => Policy.load(join(o, 'model'))));
    const before = await Policy.load(demoModel());
    const scores = await Promise.all([a!, b!, before].map(async (p) => (await p.score(['1+2='], ['3'])).logps[0]![0]!));
    expect(Math.abs(scores[0]! - scores[1]!)).toBeLessThan(1e-4);
    expect(Math.abs(scores[0]! - scores[2]!)).toBeGreaterThan(1e-2);
    for (const p of [a!, b!, before]) p.dispose();
  });
});

describe('log-probs of what sampled', () => {
  test('they turn on the correction, which sees how far the sampler is off', async () => {
    const off = (by: number): RolloutFn => async (request) => {
      const groups = await there.options.rollout(request);
      return groups.map((group) => group.map((c) => ({ ...c, samplerLogps: Array.from(c.samplerLogps!, (l) => l! - by) })));
    }; // prettier-ignore
    const there = elsewhere();
    const norm = async (rollout: RolloutFn, config: GRPOConfig = {}) =>
      (await run({ maxSteps: 1, ...config }, { ...there.options, rollout }))[0]!.metrics.gradNorm;
    const plain = await norm(off(0));
    const once = await norm(off(0.1), { samplerImportanceSampling: 'token_truncate' });
    expect(once / plain).toBeCloseTo(Math.exp(0.1), 2);
    expect(await norm(off(5))).toBe(0); // sequence_mask: every sequence is more than 3 times likelier now
    expect(await norm(off(5), { samplerImportanceSampling: 'none' })).toBeCloseTo(plain, 3);
    expect(await norm(off(5), { lossType: 'vespo' })).toBeGreaterThan(0); // token_truncate
    there.dispose();
  });

  test('without them it cannot be asked for, nor can old log-probs be taken from sampling', async () => {
    const there = elsewhere({ logps: false });
    await run({ maxSteps: 1 }, there.options);
    await expect(run({ samplerImportanceSampling: 'token_mask' }, there.options)).rejects.toThrow(
      "prompt 0, completion 0 has no samplerLogps: samplerImportanceSampling 'token_mask' needs them",
    );
    await expect(run({ reuseSamplingLogps: true, numIterations: 2 }, there.options)).rejects.toThrow('reuseSamplingLogps needs them');
    there.dispose();
  });
});

test('completions without any token of the policy, in part and altogether, train nothing', async () => {
  const rollout = (all: boolean): RolloutFn => ({ prompts, numGenerations }) =>
    prompts.map(() => Array.from({ length: numGenerations }, (_, g) => ({ tokens: [5 + g, 6], mask: all || g > 0 ? [0, 0] : [1, 1], finishReason: 'stop' as const }))); // prettier-ignore
  const rewardFuncs: GRPOTrainerOptions['rewardFuncs'] = ({ completionTokens }) => completionTokens.map((t) => t[0]! % 3);
  const [some] = await run({ maxSteps: 1 }, { rollout: rollout(false), rewardFuncs });
  expect(some!.metrics.gradNorm).toBeGreaterThan(0);
  const [none] = await run({ maxSteps: 1 }, { rollout: rollout(true), rewardFuncs });
  expect([none!.metrics.loss, none!.metrics.gradNorm, none!.metrics.entropy]).toEqual([0, 0, 0]);
});

test('a conversation arrives as messages and as the text of the chat template', async () => {
  const asked: RolloutRequest[] = [];
  const config = resolveGRPOConfig({ numGenerations: 2, perDeviceTrainBatchSize: 2 });
  const sampler = new ExternalSampler((request) => (asked.push(request), [[0, 1].map(() => ({ tokens: [3], finishReason: 'stop' as const }))]), undefined, config, false);
  const policy = { render: (m: { content: string }[]) => `<user>${m[0]!.content}</user>`, vocabSize: 9, eosTokenIds: [2], tokenizer: undefined };
  const messages = [{ role: 'user', content: 'hello' }];
  const state = { step: 4, totalSteps: 9, epoch: 0 };
  const completions = await sampler.sample(policy as unknown as Policy, {
    ...{ purpose: 'train', rows: [{ prompt: messages }], promptTokens: [Int32Array.of(1, 7)], numGenerations: 2, greedy: false },
    ...{ seed: 1, index: 4, promptOffset: 0, state, policyVersion: 3 },
  });
  expect(asked[0]!.prompts[0]).toMatchObject({ kind: 'chat', messages, text: '<user>hello</user>', tokens: Int32Array.of(1, 7) });
  expect(asked[0]!.syncedVersion).toBeUndefined();
  expect(completions).toEqual([0, 1].map(() => ({ text: '', tokens: Int32Array.of(3), finishReason: 'stop', policyVersion: 3 })));
}); // prettier-ignore

describe('before anything is loaded', () => {
  const make = (more: object) => () => new GRPOTrainer({ model: 'nowhere', rewardFuncs: correctAnswer, trainDataset, ...more });
  const hook = () => undefined;
  test.each([
    [{ rollout: 3 }, /Expected an async function for rollout but received 3/],
    [{ syncWeights: { hook } }, /syncWeights belongs to `rollout`/],
    [{ rollout: hook, syncWeights: {} }, /Expected a function for syncWeights.hook/],
    [{ rollout: hook, syncWeights: { hook, every: 0 } }, /Expected a positive integer for syncWeights.every but received 0/],
    [{ rollout: hook, syncWeights: { hook, evry: 1 } }, /Unknown option 'evry' of syncWeights; did you mean 'every'/],
    [{ rollout: hook, syncWeights: { hook, folder: '' } }, /Expected the path of a folder for syncWeights.folder/],
  ])('%j', (options, message) => expect(make(options)).toThrow(message));
});

test('a function that hangs is given up after rolloutTimeout; one that fails now and then is asked again', async () => {
  let signal: AbortSignal | undefined;
  const hang: RolloutFn = (request) => ((signal = request.signal), new Promise(() => undefined));
  await expect(run({ rolloutTimeout: 0.05 }, { rollout: hang })).rejects.toThrow(
    'The rollout function has not settled within 0.05 s (rolloutTimeout)',
  );
  expect(signal!.aborted).toBe(true);
  const there = elsewhere();
  let calls = 0;
  const flaky: RolloutFn = (request) => (++calls === 1 ? Promise.reject(new Error('busy')) : there.options.rollout(request));
  expect(await run({ maxSteps: 1, rolloutRetries: 1 }, { ...there.options, rollout: flaky })).toHaveLength(1);
  there.dispose();
});
