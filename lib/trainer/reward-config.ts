// RewardConfig: TRL's names in camelCase, with its meanings and defaults. Dropout is never applied (TRL: disable_dropout, on by default).
import type { RewardConfig } from './config-types.js';
import { incompatible } from '../errors.js';
import { resolveOptions, type OptionTable } from '../options.js';
import { commonOptions, type Resolved } from './config.js';
import { checkTrained } from './trained-part.js';

const { fused: _fused, workspaceBytes: _logits, ...common } = commonOptions;

export type { RewardConfig } from './config-types.js';

/** Every option of RewardConfig. */
export const rewardConfigOptions = {
  ...common,
  learningRate: { ...common.learningRate, default: 1e-4 },
  perDeviceTrainBatchSize: { ...common.perDeviceTrainBatchSize, description: 'Pairs per gradient accumulation step' },
  microBatchTokens: {
    ...common.microBatchTokens,
    description:
      'Tokens per forward and backward (what both sides of a pair begin with counts once; a pair is never cut apart); 0: as many as need about 1.5 GB. Does not change results beyond rounding',
  },
  maxLength: {
    type: 'integer',
    default: 1024,
    min: 1,
    description: 'Pairs with a side of more tokens are left out before training, as in TRL; never more than the context',
  },
  centerRewardsCoefficient: {
    type: 'number',
    default: 0,
    min: 0,
    description: 'Weight of (chosen + rejected)^2, which keeps scores around 0; 0.01 is usual (arXiv 2312.09244)',
  },
  evalSteps: {
    type: 'integer',
    default: 0,
    min: 0,
    description: 'With an evaluation set: measure it every so many steps; after the last step always',
  },
} as const satisfies OptionTable;

/** RewardConfig with all defaults filled in. */
export type ResolvedRewardConfig = Resolved<typeof rewardConfigOptions>;

/** Checks a RewardConfig and fills in the defaults. Throws TypeError/RangeError naming the option. */
export function resolveRewardConfig(config: RewardConfig): ResolvedRewardConfig {
  const c = resolveOptions('RewardConfig', rewardConfigOptions, config) as unknown as ResolvedRewardConfig;
  checkTrained(c);
  if (c.resume === 'auto' && c.outputDir === undefined) throw incompatible("resume: 'auto' needs outputDir");
  return c;
}
