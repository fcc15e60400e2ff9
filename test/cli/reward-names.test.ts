import { expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { builtInRewards, resolveRewards } from '../../lib/cli/reward-names.js';
import { runCli } from '../../lib/cli/main.js';
import type { RewardFn } from '../../lib/index.js';
import { inputOf } from '../rewards/support.js';
import { fake, trainArgs, type Script } from './fake.js';

const cwd = mkdtempSync(join(tmpdir(), 'fused-grpo-'));
for (const name of ['mine.mjs', 'a,b.mjs', 'plain']) writeFileSync(join(cwd, name), '');
const ctx = { ...fake().ctx, cwd, importModule: async () => ({ default: function own() {} }) };
const open = async (given: unknown, config = {}) => (await resolveRewards(given, config, undefined, ctx)).rewardFuncs as RewardFn[];
const names = async (given: unknown, config = {}) => (await open(given, config)).map((fn) => fn.name);

test('names, modules, lists and repetition', async () => {
  expect(await names('accuracy,think-format,./mine.mjs')).toEqual(['accuracyReward', 'thinkFormatReward', 'own']);
  expect(await names(['accuracy', 'mine.mjs, soft-overlong'])).toEqual(['accuracyReward', 'own', 'softOverlongPunishment']);
  expect(await names('a,b.mjs')).toEqual(['own']);
  expect(await names('plain')).toEqual(['own']);
  expect(await names(['accuracy_reward,get_soft_overlong_punishment', 'thinkFormatReward'])).toEqual([
    ...['accuracyReward', 'softOverlongPunishment', 'thinkFormatReward'],
  ]);
});

test.each(builtInRewards)('%s is made', async (name) => expect(await names(name)).toHaveLength(1));

test('options, and limits of the run', async () => {
  const tokens = (...lengths: number[]) =>
    inputOf(
      lengths.map(() => '1'),
      { solution: lengths.map(() => '1'), completionTokens: lengths.map((n) => new Int32Array(n)) },
    );
  const values = async (spec: string, config: object, lengths: number[]) => {
    const [fn] = (await open(spec, config)) as [RewardFn];
    return fn(tokens(...lengths));
  };
  expect(await values('soft-overlong', { maxCompletionLength: 100 }, [80, 90, 100])).toEqual([0, -0.5, -1]);
  expect(await values('soft-overlong', {}, [410, 512])).toEqual([0, -1]); // of the default 512
  expect(await values('soft-overlong:soft-punish-cache=10', { maxCompletionLength: 100 }, [90, 95])).toEqual([0, -0.5]);
  expect(await values('soft-overlong:maxCompletionLength=50:softPunishCache=50', { maxCompletionLength: 100 }, [25])).toEqual([-0.5]);
  expect(await values('cosine-scaled:max-value-correct=2', { maxCompletionLength: 10 }, [0, 10])).toEqual([2, 0.5]);
  expect(await values('accuracy:require-marked=true', {}, [1])).toEqual([0]);
});

test.each<[string, string]>([
  ['accurcy', "--reward: there is neither a reward function nor a file 'accurcy'; did you mean accuracy?"],
  ['zzz', 'built in are accuracy, reasoning-accuracy'],
  ['constructor', 'neither a reward function nor a file'],
  ['accuracy:x', "expected option=value after ':' but received 'x'"],
  ['accuracy:colum=x', "--reward accuracy:colum=x: Unknown option 'colum'"],
  ['language-consistency:language=xx', "--reward language-consistency:language=xx: Expected 'prompt' or one of"],
  ['./nowhere.mjs', '--reward: there is no file ./nowhere.mjs'],
  ['', "neither a reward function nor a file ''"],
])('mistake %j', async (spec, message) => {
  const error: unknown = await open(spec).catch((e: unknown) => e);
  expect((error as Error).message).toContain(message);
  expect((error as { code: string }).code).toMatch(/^ERR_(INVALID_ARG|UNKNOWN_OPTION)$/);
});

test('a reward model beside functions; it is freed when something else cannot be opened', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  mkdirSync(join(f.folder, 'judge'));
  expect(await runCli(trainArgs('--reward', 'accuracy,judge', '--reward-transform', 'sigmoid'), f.ctx)).toBe(0);
  expect(script.rewardModel).toEqual({ options: { transform: 'sigmoid' }, disposed: true });
  expect(script.seen!.rewardFuncs[2]).toHaveProperty('score');
  script.rewardModel = undefined;
  await expect(resolveRewards('judge,./nowhere.mjs', {}, undefined, f.ctx)).rejects.toThrow('no file ./nowhere.mjs');
  expect(script.rewardModel).toMatchObject({ disposed: true });
  expect(await runCli(trainArgs('--reward', 'accuracy', '--reward-transform', 'sigmoid'), f.ctx)).toBe(2);
});

test('train takes them from the command line and from --config', async () => {
  const script: Script = { steps: 1 };
  const f = fake(script);
  const args = trainArgs('--reward', 'accuracy,think-format', '--reward-weights', '1,2,3');
  expect(await runCli(args, f.ctx)).toBe(0);
  expect(script.seen!.rewardFuncs.map((fn) => fn.name)).toEqual([expect.anything(), 'accuracyReward', 'thinkFormatReward']);
  expect(script.seen!.config.rewardWeights).toEqual([1, 2, 3]);
  writeFileSync(
    join(f.folder, 'run.json'),
    JSON.stringify({ model: 'model', data: 'prompts.jsonl', output: 'two', reward: ['accuracy', 'think-format'] }),
  );
  expect(await runCli(['train', '--config', 'run.json'], f.ctx)).toBe(0);
  expect(script.seen!.rewardFuncs.map((fn) => fn.name)).toEqual(['accuracyReward', 'thinkFormatReward']);
  writeFileSync(
    join(f.folder, 'run.json'),
    JSON.stringify({ model: 'model', data: 'prompts.jsonl', output: 'two', reward: ['accuracy', 3] }),
  );
  expect(await runCli(['train', '--config', 'run.json'], f.ctx)).toBe(2);
  expect(f.err()).toContain('"reward" must be a string');
  expect(await runCli(trainArgs('--reward', 'accurcy'), f.ctx)).toBe(2);
});
