// One data path, several algorithms: each is a configuration of the trainers, over which presets and the user's options go.
import { presets } from '../presets.js';
import type { GRPOConfig } from './config.js';

/** What `train --algorithm` takes. */
export const ALGORITHMS = ['grpo', 'rloo', 'reinforce', 'ppo'] as const;
/** One of ALGORITHMS. */
export type Algorithm = (typeof ALGORITHMS)[number];

/** What `--algorithm` begins with. 'ppo' is PPOTrainer, the others are GRPOTrainer. */
export const algorithmConfigs: Record<Algorithm, GRPOConfig> = {
  grpo: {},
  rloo: presets.rloo,
  /** REINFORCE with the mean reward of the batch as the baseline; no groups needed. */
  reinforce: { lossType: 'reinforce', baseline: 'batch_mean', scaleRewards: 'none', numGenerations: 1 },
  ppo: {},
};
