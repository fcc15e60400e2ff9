// What a rollout function returns: every mistake is told by prompt and completion, and what is right is taken.
import { describe, expect, test } from '@jest/globals';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { PPOTrainer } from '../../lib/trainer/ppo-trainer.js';
import type { RewardFn } from '../../lib/trainer/reward-types.js';
import { checkRollout } from '../../lib/trainer/rollout-check.js';
import type { RolloutCompletion, RolloutFn } from '../../lib/trainer/rollout-function.js';
import { collect, run, trainDataset } from './support.js';

describe('what it returns is checked', () => {
  const limits = { prompts: 2, numGenerations: 2, maxCompletionLength: 4, vocabSize: 10, decode: (t: Int32Array) => [...t].join(' ') };
  const fine: RolloutCompletion = { tokens: [1, 2], finishReason: 'stop' };
  const with3 = (odd: unknown) => [[fine, fine], [fine, odd]]; // prettier-ignore
  const bad: [unknown, RegExp][] = [
    [undefined, /function returned undefined; for each prompt an array/],
    [[[fine, fine]], /returned completions of 1 prompts; 2 were asked for/],
    [[[fine, fine], [fine]], /returned 1 completions of prompt 1; 2 \(numGenerations\) were asked for/],
    [[[fine, fine], 'no'], /returned "no" for prompt 1/],
    [with3(null), /prompt 1, completion 1 is null; \{ tokens, finishReason \} is needed/],
    [with3({ ...fine, tokens: undefined }), /prompt 1, completion 1: tokens is undefined/],
    [with3({ ...fine, tokens: [] }), /prompt 1, completion 1 has no tokens/],
    [with3({ ...fine, tokens: [1, 2, 3, 4, 5] }), /prompt 1, completion 1 has 5 tokens; maxCompletionLength is 4/],
    [with3({ ...fine, tokens: [1, 10] }), /prompt 1, completion 1, token 1: 10 is not in the vocabulary of 10/],
    [with3({ ...fine, tokens: [-1] }), /token 0: -1 is not in the vocabulary/],
    [with3({ ...fine, tokens: [1.5] }), /token 0: 1.5 is no token id/],
    [with3({ ...fine, tokens: ['a'] }), /token 0: "a" is no token id/],
    [with3({ ...fine, finishReason: 'abort' }), /prompt 1, completion 1: finishReason is "abort"; 'stop' or 'length'/],
    [with3({ ...fine, samplerLogps: [-1] }), /prompt 1, completion 1: 1 samplerLogps for 2 tokens/],
    [with3({ ...fine, samplerLogps: [-1, NaN] }), /token 1: its log-prob is NaN; a finite number/],
    [with3({ ...fine, samplerLogps: [-1, null] }), /token 1: its log-prob is null/],
    [with3({ ...fine, samplerLogps: [0.2, -1] }), /token 0: its log-prob is 0.2; the logarithm of a probability is at most 0/],
    [with3({ ...fine, samplerLogps: [-1, -1] }), /prompt 0, completion 0 has no samplerLogps, and others of the call have: all or none/],
    [with3({ ...fine, samplerLogps: 3 }), /samplerLogps is 3; an array of numbers/],
    [with3({ ...fine, mask: [1] }), /prompt 1, completion 1: 1 mask values for 2 tokens/],
    [with3({ ...fine, mask: [1, 2] }), /token 1: mask is 2; 0 or 1 is needed/],
    [
      with3({ ...fine, sampler_logps: [-1, -1] }),
      /prompt 1, completion 1 has 'sampler_logps', which means nothing here; did you mean 'samplerLogps'\?/,
    ],
    [with3({ ...fine, policyVersion: -1 }), /policyVersion is -1; a number of optimizer steps/],
    [with3({ ...fine, columns: 'x' }), /columns is "x"; an object/],
  ];
  test.each(bad.map(([result, message]) => [message, result] as const))('%s', (message, result) => {
    expect(() => checkRollout(result, limits)).toThrow(message);
    try {
      checkRollout(result, limits);
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_ROLLOUT', message: expect.stringMatching(/^The rollout function(: prompt| returned) /) });
    }
  });

  test('what is right is taken: typed arrays, tiny log-probs above 0, all ones as no mask', () => {
    const given = {
      tokens: Uint16Array.of(3, 4),
      samplerLogps: Float32Array.of(1e-6, -2),
      mask: [true, 1],
      finishReason: 'length' as const,
    };
    const [first] = checkRollout([[given, given], [given, given]], limits); // prettier-ignore
    expect(first).toEqual({ text: '3 4', tokens: Int32Array.of(3, 4), logps: Float32Array.of(0, -2), finishReason: 'length' });
    const [versioned] = checkRollout([[{ ...given, policyVersion: 7 }, given], [given, given]], limits); // prettier-ignore
    expect(versioned!.policyVersion).toBe(7);
  });

  test('a completion without a column that others have gets null there', async () => {
    const seen: unknown[] = [];
    const rollout: RolloutFn = ({ prompts, numGenerations }) =>
      prompts.map(() =>
        Array.from({ length: numGenerations }, (_, g): RolloutCompletion => ({
          ...{ tokens: [5 + g], finishReason: 'stop' },
          ...(g % 2 ? { columns: { calls: g } } : {}),
        })),
      );
    const rewardFuncs: RewardFn = ({ completions, calls }) => (seen.push(...calls), completions.map((_, i) => i % 3));
    await run({ maxSteps: 1, perDeviceTrainBatchSize: 8, numGenerations: 4 }, { rollout, rewardFuncs });
    expect(seen).toEqual([null, 1, null, 3, null, 1, null, 3]);
  });

  test('a column that reward functions have already, a mask under PPO', async () => {
    const constant = (more: object): RolloutFn => ({ prompts, numGenerations }) =>
      prompts.map(() => Array.from({ length: numGenerations }, () => ({ tokens: [5, 6], finishReason: 'stop' as const, ...more }))); // prettier-ignore
    await expect(run({}, { rollout: constant({ columns: { answer: '1' } }) })).rejects.toThrow("a column 'answer', which reward functions get already");
    const config = { perDeviceTrainBatchSize: 4, maxCompletionLength: 4, maxSteps: 1 };
    const ppo = (more: object) => collect(new PPOTrainer({ model: demoModel(), rewardFuncs: correctAnswer, trainDataset, config, rollout: constant(more) }));
    await expect(ppo({ mask: [1, 0] })).rejects.toThrow(/prompt 0, completion 0 has a mask: PPO has no use for one/);
    expect(await ppo({ samplerLogps: [-1, -1] })).toHaveLength(1);
  }); // prettier-ignore
});
