// The caller's code calls back into the trainer that runs it.
import { describe, expect, test } from '@jest/globals';
import type { Policy } from '../../lib/engine/policy.js';
import { correctAnswer } from '../../lib/demo/arithmetic.js';
import { demoModel } from '../../lib/demo/lesson.js';
import { GRPOTrainer } from '../../lib/trainer/grpo-trainer.js';
import { SFTTrainer } from '../../lib/trainer/sft-trainer.js';
import type { RewardInput } from '../../lib/trainer/reward-types.js';
import { collect, evalDataset, small, trainDataset } from '../trainer/support.js';

type Reaction = (trainer: GRPOTrainer, input: RewardInput) => unknown;
/** A trainer whose reward function calls `react` with it, at every rollout. */
function reacting(react: Reaction, more: object = {}): GRPOTrainer {
  const rewardFuncs = async (input: RewardInput) => {
    await react(trainer, input);
    return correctAnswer(input);
  };
  const trainer: GRPOTrainer = new GRPOTrainer({
    model: demoModel(),
    rewardFuncs,
    trainDataset,
    config: { ...small, maxSteps: 2 },
    ...more,
  });
  return trainer;
}

describe('a reward function that calls the trainer', () => {
  test('train() and a second loop are refused; the run goes on', async () => {
    const errors: unknown[] = [];
    const trainer = reacting(async (t) => {
      await t.train().catch((e: unknown) => errors.push(e));
      for await (const _ of t) throw new Error('a second loop ran');
    });
    await expect(collect(trainer)).rejects.toMatchObject({
      code: 'ERR_TRAINING',
      message: expect.stringContaining('already running'),
    });
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_TRAINING' })]);
  });

  test('samples from and scores with the policy in training: the same weights as without', async () => {
    const steps = (await collect(reacting(() => undefined))).map((s) => s.metrics.loss);
    const busy = reacting(async ({ policy }) => {
      const { completions } = await policy.generate(['1+1='], { numGenerations: 3, maxNewTokens: 3 });
      await policy.score(['1+1='], completions);
    });
    expect((await collect(busy)).map((s) => s.metrics.loss)).toEqual(steps);
  });

  test('dispose(): the run ends with ERR_DISPOSED', async () => {
    await expect(collect(reacting((t) => t.dispose()))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test("disposes of the trainer's policy: the run ends with a code, and nothing hangs", async () => {
    await expect(collect(reacting(({ policy }) => policy.dispose()))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  test('evaluate() of the trainer during a step', async () => {
    let calls = 0;
    const react: Reaction = async (t) => void (++calls === 1 && (await t.evaluate()));
    const steps = await collect(reacting(react, { evalDataset: evalDataset.slice(0, 8) }));
    expect(steps).toHaveLength(2);
  });

  test('what is thrown, whatever it is, is the cause of an ERR_REWARD', async () => {
    for (const odd of [undefined, null, 'text', Symbol('s'), Object.create(null) as object, { message: 5 }])
      await expect(
        collect(
          reacting(() => {
            // eslint-disable-next-line @typescript-eslint/only-throw-error -- that is the point
            throw odd;
          }),
        ),
      ).rejects.toMatchObject({ code: 'ERR_REWARD' });
  });
});

test('a step handler that disposes of the trainer ends the run', async () => {
  const trainer: GRPOTrainer = reacting(() => undefined, { onStep: () => trainer.dispose() });
  await expect(collect(trainer)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});

test('a policy that its owner disposes of while it is trained', async () => {
  const { Policy: Loader } = await import('../../lib/engine/policy.js');
  const policy: Policy = await Loader.load(demoModel());
  const rows = trainDataset.slice(0, 64).map(({ prompt, answer }) => ({ prompt: String(prompt), completion: String(answer) }));
  const trainer = new SFTTrainer({ model: policy, trainDataset: rows, config: { maxSteps: 4 }, onStep: () => policy.dispose() });
  await expect(trainer.train()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  trainer.dispose();
});
