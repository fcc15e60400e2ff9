// What --reward means: names of built-in reward functions, modules and reward models' folders: --reward accuracy,./mine.mjs,runs/reward
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { FusedGrpoError, nearest } from '../errors.js';
import * as rewards from '../rewards/index.js';
import { grpoConfigOptions } from '../trainer/config.js';
import type { CliContext } from './context.js';
import { camel, kebab, type FlagSpec } from './options.js';
import { openRewards } from './rewards.js';

type Options = Record<string, unknown>;

/** The run's limit of completion tokens: what length rewards are measured by unless told otherwise. */
const limitOf = (config: Options): number => Number(config.maxCompletionLength ?? grpoConfigOptions.maxCompletionLength.default);

/** DAPO's share of the limit: 4,096 of 20,480 tokens. */
const CACHE_SHARE = 0.2;

function softOverlong(options: Options, config: Options): rewards.SoftOverlongOptions {
  const maxCompletionLength = (options.maxCompletionLength as number | undefined) ?? limitOf(config);
  return { softPunishCache: Math.floor(CACHE_SHARE * maxCompletionLength), ...options, maxCompletionLength };
}

const BUILT_IN: Record<string, (options: Options, config: Options) => (...args: never[]) => unknown> = {
  accuracy: (options) => rewards.getAccuracyReward(options),
  'reasoning-accuracy': (options) => rewards.getReasoningAccuracyReward(options),
  'cosine-scaled': (options, config) => rewards.getCosineScaledReward({ maxLen: limitOf(config), ...options }),
  'think-format': (options) => rewards.getThinkFormatReward(options),
  'think-answer-format': (options) => rewards.getThinkAnswerFormatReward(options),
  'language-consistency': (options) => rewards.getLanguageConsistencyReward(options),
  'repetition-penalty': (options) => rewards.getRepetitionPenaltyReward(options),
  'soft-overlong': (options, config) => rewards.getSoftOverlongPunishment(softOverlong(options, config)),
};

/** Names of the built-in reward functions on the command line. */
export const builtInRewards: readonly string[] = Object.keys(BUILT_IN);

/** accuracy_reward, accuracyReward and get_soft_overlong_punishment are understood as well. */
const plainName = (text: string): string =>
  kebab(camel(text))
    .replace(/^get-/, '')
    .replace(/-(?:reward|punishment)$/, '');

function valueOf(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** name:option=value:option=value */
function builtIn(spec: string, config: Options): ((...args: never[]) => unknown) | undefined {
  const [name = '', ...given] = spec.split(':');
  const make = BUILT_IN[plainName(name)];
  if (!make || !Object.hasOwn(BUILT_IN, plainName(name))) return undefined;
  const options: Options = {};
  for (const part of given) {
    const at = part.indexOf('=');
    if (at < 1) throw new FusedGrpoError('ERR_INVALID_ARG', `--reward ${spec}: expected option=value after ':' but received '${part}'`);
    options[camel(part.slice(0, at))] = valueOf(part.slice(at + 1));
  }
  if (typeof options.reasoningDelimiters === 'string') options.reasoningDelimiters = options.reasoningDelimiters.split('|');
  try {
    return make(options, config);
  } catch (error) {
    throw Object.assign(error as Error, { message: `--reward ${spec}: ${(error as Error).message}` });
  }
}

/** --reward of every command that scores completions. */
export const rewardFlag: FlagSpec = {
  type: 'string',
  valueName: 'NAME|FILE|DIR',
  required: true,
  multiple: true,
  description: `Reward functions, parted by commas: ${builtInRewards.join(', ')}, each with options if need be (soft-overlong:soft-punish-cache=64); modules whose default export (a function or an array) or named exports score completions; folders of reward models`,
};

const looksLikePath = (text: string): boolean => /[./\\]/.test(text.split(':')[0]!);

/** The specs in one --reward: a list parted by commas, unless a file of that name is there. */
function specsOf(text: string, cwd: string): string[] {
  return text !== '' && existsSync(resolve(cwd, text)) ? [text] : text.split(',').map((s) => s.trim());
}

const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory();

/**
 * What --reward asks for, in order: functions and reward models (to be disposed by the caller, when the run has ended). `given`: one or
 * several texts, each a list parted by commas. `config`: the run's, for limits of length. `transform`: of reward models' scores.
 */
export async function resolveRewards(
  given: unknown,
  config: Options,
  transform: unknown,
  ctx: Pick<CliContext, 'importModule' | 'cwd' | 'api'>,
): Promise<{ rewardFuncs: unknown[]; dispose: () => void }> {
  const specs = [given].flat().flatMap((text) => specsOf(String(text), ctx.cwd));
  const paths = specs.map((spec) => (builtIn(spec, config) ? undefined : resolve(ctx.cwd, spec)));
  if (transform !== undefined && !paths.some((path) => path !== undefined && isFolder(path)))
    throw new FusedGrpoError(
      'ERR_INVALID_ARG',
      `--reward-transform goes with a reward model's folder; there is none in ${specs.join(', ')}`,
    );
  const rewardFuncs: unknown[] = [];
  const opened: (() => void)[] = [];
  const dispose = () => opened.forEach((close) => close());
  try {
    for (const [i, spec] of specs.entries()) {
      const own = builtIn(spec, config);
      if (own) rewardFuncs.push(own);
      else if (spec !== '' && (looksLikePath(spec) || existsSync(paths[i]!))) {
        const found = await openRewards(spec, isFolder(paths[i]!) ? transform : undefined, ctx);
        opened.push(found.dispose);
        rewardFuncs.push(...[found.rewardFuncs].flat());
      } else throw unknownReward(spec);
    }
  } catch (error) {
    dispose();
    throw error;
  }
  return { rewardFuncs, dispose };
}

function unknownReward(spec: string): FusedGrpoError {
  const name = spec.split(':')[0]!;
  const near = nearest(plainName(name), builtInRewards);
  const hint = near ? `; did you mean ${near}?` : `; built in are ${builtInRewards.join(', ')}`;
  return new FusedGrpoError('ERR_INVALID_ARG', `--reward: there is neither a reward function nor a file '${name}'${hint}`);
}
