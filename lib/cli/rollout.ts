// --rollout: a module whose default export samples completions, and whose export syncWeights hands the weights over. --rollout-urls: servers.
import { FusedGrpoError } from '../errors.js';
import { openAICompatible } from '../rollouts/openai-compatible.js';
import type { OpenAICompatibleOptions } from '../rollouts/options.js';
import { SERVERS } from '../rollouts/protocol.js';
import type { GRPOTrainerOptions } from '../trainer/grpo-trainer.js';
import type { CliContext } from './context.js';
import { flagName, type FlagTable, type FlagValues } from './options.js';
import { importUserModule } from './rewards.js';

/** Not a flag: others on the machine see those. */
export const KEY_VARIABLE = 'FUSED_GRPO_ROLLOUT_KEY';

export const serverFlags = {
  rolloutUrls: {
    type: 'string',
    valueName: 'URL,…',
    description: 'Inference servers that sample the completions and are handed the weights: vLLM or SGLang, with commas between several',
  },
  rolloutModel: { type: 'string', valueName: 'NAME', description: 'The name that they serve the model by; default: the only one' },
  rolloutServer: { type: 'enum', values: ['auto', ...SERVERS], description: 'Which server they are; default: they are asked' },
  rolloutEvery: { type: 'integer', min: 1, description: 'Optimizer steps between hand-overs of the weights; default 1' },
  rolloutReload: {
    type: 'enum',
    values: ['auto', 'none'],
    description: "'none': they keep the weights that they have (llama.cpp cannot do otherwise from here); default auto",
  },
  rolloutConcurrency: { type: 'integer', min: 1, description: 'Requests under way at each server; default 64' },
} as const satisfies FlagTable;

type Rollout = Pick<GRPOTrainerOptions, 'rollout' | 'syncWeights'>;

function ofServers(own: FlagValues, env: NodeJS.ProcessEnv): Rollout {
  const given = Object.keys(serverFlags).filter((name) => own[name] !== undefined);
  if (own.rolloutUrls === undefined) {
    if (given.length === 0) return {};
    throw new FusedGrpoError('ERR_INVALID_ARG', `${flagName(given[0]!)} belongs to --rollout-urls`);
  }
  if (own.rollout !== undefined)
    throw new FusedGrpoError('ERR_INVALID_ARG', '--rollout and --rollout-urls are two ways to say the same: one of them');
  const urls = (own.rolloutUrls as string).split(',').map((url) => url.trim()).filter((url) => url !== ''); // prettier-ignore
  const named = { model: own.rolloutModel, server: own.rolloutServer, every: own.rolloutEvery, reload: own.rolloutReload };
  const options = { ...named, maxConcurrency: own.rolloutConcurrency, apiKey: env[KEY_VARIABLE] } as Partial<OpenAICompatibleOptions>;
  return { rollout: openAICompatible({ urls, ...options }) };
}

/**
 * The trainer's options of --rollout and --rollout-urls; none without them. A module without a rollout function is an error that says what is
 * needed.
 */
export async function rolloutOf(own: FlagValues, ctx: Pick<CliContext, 'importModule' | 'cwd' | 'env'>): Promise<Rollout> {
  const servers = ofServers(own, ctx.env);
  if (own.rollout === undefined) return servers;
  const path = own.rollout as string;
  const { default: rollout, syncWeights } = await importUserModule('--rollout', path, ctx);
  if (typeof rollout !== 'function')
    throw new FusedGrpoError(
      'ERR_INVALID_ARG',
      `--rollout: ${path} has no rollout function; export default async ({ prompts, numGenerations, sampling }) => completions`,
    );
  return { rollout, ...(syncWeights === undefined ? {} : { syncWeights }) } as Rollout;
}
