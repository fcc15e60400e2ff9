// --rollout: a module whose default export samples completions, and whose export syncWeights hands the weights over.
import { FusedGrpoError } from '../errors.js';
import type { GRPOTrainerOptions } from '../trainer/grpo-trainer.js';
import type { CliContext } from './context.js';
import { importUserModule } from './rewards.js';

/** The trainer's options of the module; none without a path. A module without a rollout function is an error that says what is needed. */
export async function loadRollout(
  path: string | undefined,
  ctx: Pick<CliContext, 'importModule' | 'cwd'>,
): Promise<Pick<GRPOTrainerOptions, 'rollout' | 'syncWeights'>> {
  if (path === undefined) return {};
  const { default: rollout, syncWeights } = await importUserModule('--rollout', path, ctx);
  if (typeof rollout !== 'function')
    throw new FusedGrpoError(
      'ERR_INVALID_ARG',
      `--rollout: ${path} has no rollout function; export default async ({ prompts, numGenerations, sampling }) => completions`,
    );
  return { rollout, ...(syncWeights === undefined ? {} : { syncWeights }) } as Pick<GRPOTrainerOptions, 'rollout' | 'syncWeights'>;
}
