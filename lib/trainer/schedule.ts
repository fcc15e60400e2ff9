import { worldSize } from '../distributed/environment.js';
import type { ResolvedGRPOConfig, ResolvedSFTConfig } from './config.js';

/** The options of which a resumed run must have the same; batch sizes are those of all ranks together, whose number may change. */
export function layoutOf<C extends object>(config: C, names: readonly (keyof C & string)[]): Record<string, unknown> {
  const value = (name: keyof C & string) => (name === 'perDeviceTrainBatchSize' ? (config[name] as number) * worldSize() : config[name]);
  return Object.fromEntries(names.map((name) => [name, value(name)]));
}

/** How one of them was and is now, as JSON; whoever resumes with other ranks is told what would do. */
export function describeChange(name: string, was?: string, is?: string): string {
  const changed = `was ${was ?? 'not set'} and is now ${is ?? 'not set'}`;
  if (name !== 'perDeviceTrainBatchSize') return `${name} ${changed}`;
  const [count, fitting] = [worldSize(), Number(was) / worldSize()];
  const advice = Number.isInteger(fitting) ? `; ${fitting} would do` : '';
  return `${name} times the number of processes ${changed} (${Number(is) / count} x ${count})${advice}`;
}

type Schedule = Pick<ResolvedSFTConfig, 'learningRate' | 'lrSchedulerType' | 'warmupSteps' | 'warmupRatio'>;

/**
 * Learning rate of optimizer step `step` (0-based) of `totalSteps`, as transformers' schedulers give it:
 * linear warm-up from 0, then constant, linear or half a cosine down to 0.
 */
export function learningRateAt(config: Schedule, step: number, totalSteps: number): number {
  const warmup = config.warmupSteps > 0 ? config.warmupSteps : Math.ceil(config.warmupRatio * totalSteps);
  if (config.lrSchedulerType === 'constant') return config.learningRate;
  if (step < warmup) return (config.learningRate * step) / Math.max(1, warmup);
  if (config.lrSchedulerType === 'constant_with_warmup') return config.learningRate;
  const left = (totalSteps - step) / Math.max(1, totalSteps - warmup);
  if (config.lrSchedulerType === 'linear') return config.learningRate * Math.max(0, left);
  return config.learningRate * 0.5 * (1 + Math.cos(Math.PI * (1 - Math.max(0, left))));
}

type Rollouts = Pick<ResolvedGRPOConfig, 'rolloutCompletions' | 'stepCompletions' | 'numIterations' | 'numGenerations' | 'numTrainEpochs'>;

/** Optimizer steps that are made on one rollout. */
export const stepsPerRollout = (config: Rollouts): number => (config.rolloutCompletions / config.stepCompletions) * config.numIterations;

/** Optimizer steps between the weights that a rollout is drawn by and its last step, when those weights are the policy's of that moment. */
export const staleAnyway = (config: Rollouts & Pick<ResolvedGRPOConfig, 'generateAhead'>): number =>
  stepsPerRollout(config) * (config.generateAhead ? 2 : 1) - 1;

/** Optimizer steps of numTrainEpochs passes over so many prompts. */
export const countSteps = (config: Rollouts, prompts: number): number =>
  Math.ceil((prompts * config.numTrainEpochs * config.numGenerations) / config.rolloutCompletions) * stepsPerRollout(config);
