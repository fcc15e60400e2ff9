// PPO held to TRL's PPOTrainer (1.12, the last TRL that has one), run whole (scripts/goldens/make_update_goldens.py): log-probs, values,
// advantages and returns of a rollout, then the losses and both models' gradients of every epoch on it.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { Training } from '../../lib/engine/training.js';
import { toBatch } from '../../lib/trainer/batch.js';
import { Critic, type Valued } from '../../lib/trainer/critic.js';
import { stepLoss } from '../../lib/trainer/loss.js';
import { resolvePPOConfig, type ResolvedPPOConfig } from '../../lib/trainer/ppo-config.js';
import type { RewardInput } from '../../lib/trainer/reward-types.js';
import { nameRewards, scoreRewards } from '../../lib/trainer/rewards.js';
import type { Completion, Rollout } from '../../lib/trainer/rollout.js';
import { classifierFolder } from '../engine/scalar_support.js';
import { goldenModels, largest } from '../engine/support.js';
import { gradientError, gradientsOf, type Adam, type StoredGradients } from '../support/update.js';

interface Step {
  policyLoss: number;
  valueLoss: number;
  valueClipRatio: number;
  /** Share of positions whose clipped surrogate was taken. */
  clipped: number;
  loss: number;
  policy: StoredGradients;
  value: StoredGradients;
}
interface PPOCase {
  family: string;
  name: string;
  config: Record<string, number> & { klEstimator: 'k1' | 'k3' };
  prompts: number[][];
  completions: number[][];
  ended: boolean[];
  /** By the reward model, without penalties. */
  scores: number[];
  logps: number[][];
  refLogps: number[][];
  advantages: number[][];
  /** One more where a completion ended before its maximum length: of the position after its end token. */
  values: number[][];
  returns: number[][];
  steps: Step[];
}
const golden = JSON.parse(readFileSync(join(__dirname, '../golden/update/ppo.json'), 'utf8')) as {
  adam: Adam;
  valueHead: number[];
  cases: PPOCase[];
};

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-ppo-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const LENGTH = 10;
const ids = (rows: number[][]) => rows.map((row) => Int32Array.from(row));
const floats = (rows: number[][]) => rows.map((row) => Float32Array.from(row));
const distance = (got: ArrayLike<number>[], want: number[][]) => {
  expect(Array.from(got, (row) => row.length)).toEqual(want.map((row) => row.length));
  return largest(want.flatMap((row, i) => row.map((x, t) => Math.abs(got[i]![t]! - x))));
};

const configOf = ({ config: c }: PPOCase, more: object = {}): ResolvedPPOConfig =>
  resolvePPOConfig({
    ...{ gamma: c.gamma, lam: c.lam, beta: c.klCoef, klEstimator: c.klEstimator, epsilon: c.cliprange, cliprangeValue: c.cliprangeValue },
    ...{ vfCoef: c.vfCoef, missingEosPenalty: c.missingEosPenalty, temperature: c.temperature, maxCompletionLength: LENGTH },
    ...more,
  });

/**
 * `after`: as TRL does where a completion ended before its maximum length, the reward stands one position later, and that position, the state
 * in which nothing is chosen any more, has a value that is trained as well. We put the reward at the end token, as verl and OpenRLHF do: the
 * state after it is the end, and its value is 0.
 */
function completionsOf(of: PPOCase, after: boolean): Completion[] {
  return of.completions.map((tokens, i) => ({
    text: '',
    tokens: Int32Array.from(after && tokens.length < LENGTH ? [...tokens, 0] : tokens),
    logps: Float32Array.from(of.logps[i]!),
    finishReason: of.ended[i] ? 'stop' : 'length',
  }));
}

async function judge(critic: Critic, of: PPOCase, policy: Policy, after: boolean): Promise<Valued> {
  const completions = completionsOf(of, after);
  const rewards = nameRewards([() => of.scores], [1]);
  const scored = await scoreRewards(rewards, { prompts: of.scores, completions: of.scores } as unknown as RewardInput, { timeout: 5 });
  const more = (rows: number[][]) =>
    floats(rows.map((row, i) => [...row, ...Array<number>(completions[i]!.tokens.length - row.length).fill(1)]));
  return critic.judge(ids(of.prompts), completions, scored, rewards, policy, more(of.logps), more(of.refLogps));
}

function whiten(rows: number[][]): number[][] {
  const all = rows.flat();
  const mean = all.reduce((a, b) => a + b) / all.length;
  const variance = all.reduce((s, x) => s + (x - mean) ** 2, 0) / (all.length - 1);
  return rows.map((row) => row.map((x) => (x - mean) / Math.sqrt(variance + 1e-8)));
}

async function open(of: PPOCase, config: ResolvedPPOConfig) {
  const policy = await Policy.load(join(goldenModels, of.family), { dtype: 'float32' });
  const critic = new Critic(
    config,
    classifierFolder(join(folder, of.family), of.family, {}, golden.valueHead),
    new AbortController().signal,
  );
  await critic.open(policy);
  return { policy, critic };
}

function close({ policy, critic }: { policy: Policy; critic: Critic }): void {
  critic.dispose();
  policy.dispose();
}

const early = (of: PPOCase) => of.completions.some((c) => c.length < LENGTH);

test('the cases are the ones that matter', () => {
  expect(golden.cases.some((c) => c.steps.length > 3)).toBe(true);
  expect(golden.cases.some((c) => c.config.missingEosPenalty !== undefined && c.ended.includes(true) && c.ended.includes(false))).toBe(
    true,
  );
  expect(golden.cases.some((c) => c.steps.at(-1)!.valueClipRatio > 0.1 && c.steps.at(-1)!.clipped > 0.1)).toBe(true);
  expect(golden.cases.filter(early).length).toBeGreaterThan(1);
});

describe.each(golden.cases)('$family, $name', (of) => {
  test('log-probs of policy and reference', async () => {
    const [policy, reference] = await Promise.all(
      [of.family, 'llama3-rope'].map((f) => Policy.load(join(goldenModels, f), { dtype: 'float32' })),
    );
    const temperature = of.config.temperature ?? 1;
    const score = async (by: Policy) => (await by.score(ids(of.prompts), ids(of.completions), { temperature })).logps;
    expect(distance(await score(policy!), of.logps)).toBeLessThan(1e-5);
    if (of.family === 'llama') expect(distance(await score(reference!), of.refLogps)).toBeLessThan(1e-5);
    policy!.dispose();
    reference!.dispose();
  });

  test('values, advantages and returns of the rollout', async () => {
    const models = await open(of, configOf(of));
    const ours = await judge(models.critic, of, models.policy, false);
    const own = (rows: number[][]) => rows.map((row, i) => row.slice(0, of.completions[i]!.length));
    expect(distance(ours.values, own(of.values))).toBeLessThan(1e-5);
    if (!early(of)) {
      expect(distance(ours.returns, of.returns)).toBeLessThan(1e-5);
      expect(distance(ours.tokenAdvantages, of.advantages)).toBeLessThan(1e-5);
    } else expect(distance(ours.returns, own(of.returns))).toBeGreaterThan(1e-2); // the reward's place: see completionsOf
    close(models);
  });

  if (early(of))
    test("with TRL's position after the end, values, advantages and returns are TRL's", async () => {
      const models = await open(of, configOf(of, { whitenAdvantages: false }));
      const theirs = await judge(models.critic, of, models.policy, true);
      expect(distance(theirs.values, of.values)).toBeLessThan(1e-5);
      expect(distance(theirs.returns, of.returns)).toBeLessThan(1e-5);
      const tokens = theirs.tokenAdvantages.map((row, i) => [...row].slice(0, of.completions[i]!.length)); // whitened without it
      expect(distance(whiten(tokens), of.advantages)).toBeLessThan(1e-5);
      close(models);
    });

  test('losses and gradients of every epoch', async () => {
    const config = configOf(of, golden.adam);
    const models = await open(of, config);
    const training = new Training(models.policy);
    const rollout = (after: boolean): Rollout => ({
      ...{ index: 0, prompts: [], promptTokens: ids(of.prompts), completions: completionsOf(of, after), used: 0, epoch: 0 },
      ...{
        rewards: new Float64Array(),
        rewardsByFunction: [],
        groupStd: new Float32Array(),
        seconds: { generate: 0, reward: 0, score: 0 },
      },
      ...{ advantages: new Float32Array(), tokenAdvantages: floats(of.advantages), oldLogps: floats(of.logps) },
      ...{ values: floats(of.values), returns: floats(of.returns) },
    });
    const chosen = Int32Array.from(of.prompts, (_, i) => i);
    const tokens = of.completions.flat().length;
    const options = { microBatchTokens: 0, signal: new AbortController().signal };
    for (const [k, want] of of.steps.entries()) {
      const policy = await training.accumulate(toBatch(rollout(false), chosen, config), stepLoss(config, tokens, chosen.length), {
        ...{ microBatchTokens: 0, fused: true },
      });
      const value = await models.critic.accumulate(rollout(true), chosen, options);
      const metrics = models.critic.metrics(value);
      const bound = 1e-5;
      expect(Math.abs(policy.loss - want.policyLoss)).toBeLessThan(bound);
      expect(Math.abs(metrics.valueLoss - want.valueLoss)).toBeLessThan(bound);
      expect(Math.abs(policy.loss + value.loss - want.loss)).toBeLessThan(bound);
      expect(metrics.valueClipRatio).toBeCloseTo(want.valueClipRatio, 5);
      for (const [side, model] of [
        ['policy', training],
        ['value', models.critic['training']!],
      ] as const) {
        const { entries, norms } = gradientError(await gradientsOf(model, folder, golden.adam), want[side]);
        expect([k, side, entries < bound ? 0 : entries, norms < bound ? 0 : norms]).toEqual([k, side, 0, 0]);
      }
    }
    close(models);
  });
});
