import { invalidType } from '../errors.js';
import { Critic } from './critic.js';
import { GRPOTrainer, type GRPOTrainerOptions } from './grpo-trainer.js';
import { resolvePPOConfig, type PPOConfig, type ResolvedPPOConfig } from './ppo-config.js';
import type { TextRow } from './reward-types.js';

/** What a PPOTrainer is made of. `Row`, `Added`: see GRPOTrainer. */
export interface PPOTrainerOptions<Row extends object = TextRow, Added = unknown> extends Omit<GRPOTrainerOptions<Row, Added>, 'config'> {
  /** Options; defaults are those of TRL. */
  config?: PPOConfig;
  /**
   * The critic: a folder with a reward model, or with a language model, which gets a new head. It must read the policy's token ids. Default:
   * the policy as it is when the run begins. A new head begins at 0. The critic is trained in full.
   */
  valueModel?: string;
}

/**
 * Proximal Policy Optimization with a critic (arXiv 1707.06347; for language models arXiv 2203.02155), the baseline that GRPO replaces: a
 * second model of the policy's size predicts the reward at every token, advantages are generalised advantage estimates (arXiv 1506.02438),
 * and both are trained. Everything else (sampling, rewards, the clipped loss, checkpoints, metrics) is GRPOTrainer's, and so are errors.
 * Rewards of whole completions stand at their last token; a function may reward steps as well.
 */
export class PPOTrainer<Row extends object = TextRow, Added = unknown> extends GRPOTrainer<Row, Added> {
  /** The options with all defaults filled in. */
  declare readonly config: ResolvedPPOConfig;

  constructor(options: PPOTrainerOptions<Row, Added>) {
    const { valueModel, ...rest } = options ?? {};
    if (valueModel !== undefined && (typeof valueModel !== 'string' || valueModel === ''))
      throw invalidType('valueModel', 'the path of a checkpoint folder', valueModel);
    super(options ? rest : options, {
      kind: 'ppo',
      name: 'PPOTrainer',
      described: valueModel === undefined ? {} : { valueModel },
      resolve: (config) => resolvePPOConfig(config),
      critic: (config, signal) => new Critic(config as ResolvedPPOConfig, valueModel, signal),
    });
  }
}
