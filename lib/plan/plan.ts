// What a GRPO run would do and need, without doing it: data, model, options and rewards are checked on the way.
import { existsSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { isAdapterFolder, readAdapterFolder } from '../engine/adapter-folder.js';
import { readFolder, runModel, weightFiles } from '../engine/folder.js';
import { capabilities } from '../capabilities.js';
import type { ColumnMapping } from '../data/columns.js';
import { FusedGrpoError } from '../errors.js';
import { resolveGRPOConfig, type GRPOConfig, type ResolvedGRPOConfig } from '../trainer/config.js';
import { resolvePPOConfig, type PPOConfig } from '../trainer/ppo-config.js';
import type { GRPOTrainerOptions } from '../trainer/grpo-trainer.js';
import { nameRewards, scoreRewards } from '../trainer/rewards.js';
import { rewardInput } from '../trainer/rollout.js';
import { checkPromptRow } from '../trainer/rows.js';
import { countSteps, stepsPerRollout } from '../trainer/schedule.js';
import type { ModelConfig } from '../engine/config.js';
import { memoryParts, microBatchTokensOf, savings, totalBytes, type MemoryPart, type MemoryShape, type Saving } from './memory.js';
import { parameterCount } from './parameters.js';
import { trainedShape } from './trained.js';
import { measurePrompts, type PromptStats } from './prompts.js';

export interface PlanInput {
  /** The model's folder; its weights need not be there when `weights` is false. */
  folder: string;
  weights: boolean;
  dataset: string;
  /** Where the run would write, and what it would be evaluated on. */
  outputDir?: string;
  evalDataset?: string;
  columnMapping?: ColumnMapping;
  rewardFuncs: GRPOTrainerOptions['rewardFuncs'];
  config: GRPOConfig | PPOConfig;
  /** PPO. */
  critic?: boolean;
}

export interface RunPlan {
  model: { type: string; parameters: number; dtype: 'float32' | 'bfloat16'; contextLength: number };
  data: { prompts: number; promptTokens: PromptStats['tokens']; columns: string[] };
  /** What each reward function said to one made-up completion; null: nothing to say. */
  rewards: Record<string, number | null>;
  /** Optimizer steps of the run. */
  steps: number;
  epochs: number;
  promptsPerRollout: number;
  completionsPerStep: number;
  /** Prompt and completion tokens of a step at most, and its micro-batches' size. */
  tokensPerStep: number;
  microBatchTokens: number;
  memory: { parts: MemoryPart[]; totalBytes: number; machineBytes: number; availableBytes: number };
  fits: boolean;
  /** What would make it smaller; empty when it fits. */
  savings: Saving[];
  warnings: string[];
}

const MADE_UP = 'This is a made-up completion. The answer is 42.';

/** Runs the reward functions on one made-up completion of the first row. */
async function tryRewards(input: PlanInput, config: ResolvedGRPOConfig, { first }: PromptStats): Promise<RunPlan['rewards']> {
  const rewards = nameRewards(input.rewardFuncs, config.rewardWeights);
  const completion = { text: MADE_UP, tokens: new Int32Array(8), logps: new Float32Array(8), finishReason: 'stop' as const };
  const given = rewardInput([first], [completion], 1, { step: 0, totalSteps: 1, epoch: 0 });
  const { byFunction } = await scoreRewards(rewards, given, { timeout: config.rewardTimeout });
  return Object.fromEntries(rewards.map(({ name }, k) => [name, Number.isNaN(byFunction[k]![0]!) ? null : byFunction[k]![0]!]));
}

function machineMemory(): { machineBytes: number; availableBytes: number } {
  const limit = process.constrainedMemory() ?? 0; // a container's; 0 or a giant number: none
  const machineBytes = limit > 0 && limit < totalmem() ? limit : totalmem();
  return { machineBytes, availableBytes: Math.min(machineBytes, process.availableMemory() + process.memoryUsage().rss) };
}

function dtypeOf(config: ResolvedGRPOConfig, model: ModelConfig): 'float32' | 'bfloat16' {
  if (config.dtype !== 'auto') return config.dtype;
  return model.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
}

function promptLimit(config: ResolvedGRPOConfig, contextLength: number): { tokens: number; why: string } {
  const left = contextLength - config.maxCompletionLength;
  const asked = config.maxPromptLength ?? Infinity;
  if (left < 1)
    throw new FusedGrpoError(
      'ERR_CONTEXT_LENGTH',
      `maxCompletionLength ${config.maxCompletionLength} leaves no room for a prompt in the model's context of ${contextLength}`,
    );
  return asked <= left
    ? { tokens: asked, why: `maxPromptLength is ${asked}` }
    : { tokens: left, why: `the context of ${contextLength} leaves ${left} beside maxCompletionLength ${config.maxCompletionLength}` };
}

const unevenColumns = (what: string, { partial }: PromptStats): string[] =>
  partial.length === 0 ? [] : [`Not every row of ${what} has ${partial.join(', ')}: reward functions see undefined there`];

const missingColumns = (data: PromptStats, evaluation: PromptStats): string[] => {
  const missing = data.columns.filter((name) => !evaluation.columns.includes(name));
  return missing.length === 0
    ? []
    : [`The evaluation data has no ${missing.join(', ')}, which the data set has: reward functions may need it`];
};

/**
 * Checks everything a run needs and says what it would do.
 * @throws what a run would: ERR_INVALID_ARG and the like for options, ERR_DATA for rows, ERR_MODEL, ERR_REWARD, ERR_CONTEXT_LENGTH.
 */
export async function planRun(input: PlanInput): Promise<RunPlan> {
  const config = input.critic ? resolvePPOConfig(input.config) : resolveGRPOConfig(input.config);
  const place = runModel(input.folder);
  const adapter = isAdapterFolder(place) ? await readAdapterFolder(place) : undefined;
  const { config: model, path } = readFolder(adapter?.base ?? place);
  if (input.weights) weightFiles(path);
  const { maxPositions } = model.native;
  const data = await measurePrompts(input.dataset, path, promptLimit(config, maxPositions), {
    check: checkPromptRow,
    columnMapping: input.columnMapping,
  });
  const evaluation =
    input.evalDataset === undefined
      ? undefined
      : await measurePrompts(input.evalDataset, path, promptLimit(config, maxPositions), {
          check: checkPromptRow,
          columnMapping: input.columnMapping,
        });
  if (input.outputDir !== undefined && config.resume === undefined && existsSync(join(input.outputDir, 'metrics.jsonl')))
    throw new FusedGrpoError(
      'ERR_DATA',
      `${input.outputDir} already holds a run; give another outputDir, or resume: 'auto' to continue it`,
    );
  const rewards = await tryRewards(input, config, data);
  capabilities(); // loads the addons: what they take belongs to the process
  const steps = config.maxSteps > 0 ? config.maxSteps : countSteps(config, data.count);
  const shape: MemoryShape = {
    ...{ model: model.native, dtype: dtypeOf(config, model), numGenerations: config.numGenerations, fused: config.fused },
    ...{ rolloutCompletions: config.rolloutCompletions, stepCompletions: config.stepCompletions },
    ...{ promptTokens: data.tokens.max, maxCompletionLength: config.maxCompletionLength },
    ...{ microBatchTokens: config.microBatchTokens, workspaceBytes: config.workspaceBytes, generateAhead: config.generateAhead },
    critic: input.critic === true,
    trained: trainedShape(model.native, adapter ? { loraRank: adapter.rank } : config),
    gradientCheckpointing: config.gradientCheckpointing,
    reference: config.beta > 0 && !adapter && config.loraRank === undefined,
    scored: config.beta > 0 || ((stepsPerRollout(config) > 1 || config.generateAhead) && !config.reuseSamplingLogps),
    baseBytes: process.memoryUsage().rss,
  };
  const parts = memoryParts(shape);
  const { machineBytes, availableBytes } = machineMemory();
  const total = totalBytes(parts);
  const promptsPerRollout = config.rolloutCompletions / config.numGenerations;
  const rollouts = steps / stepsPerRollout(config);
  const fits = total <= machineBytes;
  return {
    model: { type: model.modelType, parameters: parameterCount(model.native), dtype: shape.dtype, contextLength: maxPositions },
    data: { prompts: data.count, promptTokens: data.tokens, columns: data.columns },
    rewards,
    steps,
    epochs: (rollouts * promptsPerRollout) / data.count,
    promptsPerRollout,
    completionsPerStep: config.stepCompletions,
    tokensPerStep: config.stepCompletions * (data.tokens.max + config.maxCompletionLength),
    microBatchTokens: microBatchTokensOf(shape),
    memory: { parts, totalBytes: total, machineBytes, availableBytes },
    fits,
    savings: fits ? [] : savings(shape),
    warnings: [
      ...unevenColumns('the data set', data),
      ...(evaluation ? [...unevenColumns('the evaluation data', evaluation), ...missingColumns(data, evaluation)] : []),
      ...(fits && total > availableBytes
        ? [`Other programs hold memory now: ${(availableBytes / 1e9).toFixed(1)} GB are free and ${(total / 1e9).toFixed(1)} GB are needed`]
        : []),
    ],
  };
}
