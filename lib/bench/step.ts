// A whole training step (generate, reward, score, gradients, optimizer) as GRPOTrainer makes it, on prompts of a given length; and
// generation alone. End tokens are ignored, so that every completion has the same length.
import { Policy } from '../engine/policy.js';
import { Training } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
import { resolveGRPOConfig } from '../trainer/config.js';
import { stepLoss } from '../trainer/loss.js';
import { nameRewards, type RewardInput } from '../trainer/rewards.js';
import { drawRollout, minibatch, toBatch, type RolloutContext } from '../trainer/rollout.js';
import { automaticMicroBatchTokens } from '../trainer/run.js';
import { noise } from './data.js';
import { measure, summary, type CaseResult, type Row } from './measure.js';
import type { BenchContext } from './suite.js';

export interface StepShape {
  /** A folder in Hugging Face layout. */
  model: string;
  prompts: number;
  numGenerations: number;
  promptLength: number;
  maxCompletionLength: number;
  dtype: 'auto' | 'float32' | 'bfloat16';
  /** Above 0: a frozen copy of the model is the reference, and is scored. */
  beta: number;
  /** Tokens of a micro-batch, padding included; 0: as the trainer chooses. */
  microBatchTokens: number;
}

const PHASES = ['generate', 'reward', 'score', 'train', 'optimizer'] as const;
type Phase = (typeof PHASES)[number];

export interface StepResult {
  /** Seconds of a whole step. */
  stepSeconds: { median: number; min: number };
  /** Seconds of each part, medians. */
  phases: Record<Phase, number>;
  /** Peak resident memory of this process. */
  peakRssBytes: number;
  /** Completion tokens of one step: prompts x numGenerations x maxCompletionLength. */
  generatedTokens: number;
  tokensPerSecond: number;
  /** Steps measured; one more before them is thrown away. */
  steps: number;
  parameters: number;
  dtype: string;
}

async function load(shape: StepShape, signal?: AbortSignal): Promise<Policy> {
  const policy = await Policy.load(shape.model, { dtype: shape.dtype, signal });
  const length = shape.promptLength + shape.maxCompletionLength;
  if (length <= policy.contextLength) return policy;
  policy.dispose();
  throw new FusedGrpoError(
    'ERR_CONTEXT_LENGTH',
    `Prompts of ${shape.promptLength} and completions of ${shape.maxCompletionLength} tokens do not fit the model's context of ${policy.contextLength}`,
  );
}

function promptsOf(shape: StepShape, vocab: number): Int32Array[] {
  const next = noise(7);
  const id = (): number => Math.floor(next() * vocab);
  return Array.from({ length: shape.prompts }, () => Int32Array.from({ length: shape.promptLength }, id));
}

/** Any reward that differs within a group will do: the share of even token ids. */
const evenTokens = ({ completionTokens }: RewardInput): number[] =>
  completionTokens.map((tokens) => tokens.filter((id) => id % 2 === 0).length / tokens.length);

interface Laps {
  total: number;
  phases: Record<Phase, number>;
}

async function makeStep(context: RolloutContext, training: Training, prompts: Int32Array[], index: number): Promise<Laps> {
  const { config, policy, signal } = context;
  const begin = performance.now();
  const state = { step: index, totalSteps: index + 1, epoch: 0 };
  const rollout = await drawRollout(
    context,
    prompts.map((prompt) => ({ prompt })),
    index,
    false,
    state,
  );
  const chosen = minibatch(rollout, config);
  const tokens = [...chosen].reduce((n, i) => n + rollout.completions[i]!.tokens.length, 0);
  const batch = toBatch(rollout, chosen, config);
  const microBatchTokens = config.microBatchTokens || automaticMicroBatchTokens(policy);
  const before = performance.now();
  await training.accumulate(batch, stepLoss(config, tokens, chosen.length), { microBatchTokens, fused: true, signal });
  const middle = performance.now();
  await training.optimizerStep(config);
  const end = performance.now();
  const phases = { ...rollout.seconds, train: (middle - before) / 1000, optimizer: (end - middle) / 1000 };
  return { total: (end - begin) / 1000, phases };
}

/** Makes `rounds` steps after one that is not counted. */
export async function benchStep(shape: StepShape, context: BenchContext, onStep?: (done: number) => void): Promise<StepResult> {
  const { signal, rounds } = context;
  const policy = await load(shape, signal);
  const reference = shape.beta > 0 ? await policy.clone() : undefined;
  try {
    const completions = shape.prompts * shape.numGenerations;
    const config = resolveGRPOConfig({
      ...{ numGenerations: shape.numGenerations, maxCompletionLength: shape.maxCompletionLength, beta: shape.beta },
      ...{ perDeviceTrainBatchSize: completions, gradientAccumulationSteps: 1, microBatchTokens: shape.microBatchTokens },
    });
    const rewards = nameRewards(evenTokens, undefined);
    const rollout: RolloutContext = { policy, reference, rewards, config, signal, ignoreEos: true };
    const training = new Training(policy);
    const prompts = promptsOf(shape, policy.vocabSize);
    const laps: Laps[] = [];
    for (let i = -1; i < rounds; ++i) {
      const lap = await makeStep(rollout, training, prompts, i + 1);
      if (i >= 0) laps.push(lap);
      onStep?.(i + 1);
    }
    const { median, min } = summary(laps.map((l) => l.total));
    const generatedTokens = completions * shape.maxCompletionLength;
    return {
      stepSeconds: { median, min },
      phases: Object.fromEntries(PHASES.map((p) => [p, summary(laps.map((l) => l.phases[p])).median])) as Record<Phase, number>,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      generatedTokens,
      tokensPerSecond: generatedTokens / median,
      ...{ steps: rounds, parameters: policy.parameterCount, dtype: policy.dtype },
    };
  } finally {
    reference?.dispose();
    policy.dispose();
  }
}

const words = (s: StepShape): string =>
  `${s.prompts} x ${s.numGenerations} completions, ${s.promptLength} + ${s.maxCompletionLength} tokens`;

/** The step as a case of the suite: its parts against the whole. */
export async function stepCase(shape: StepShape, context: BenchContext): Promise<CaseResult> {
  const r = await benchStep(shape, context);
  const row = (name: string, median: number, min = median): Row => ({
    name,
    seconds: { median, min, spread: 0, rounds: r.steps },
    perBaseline: median / r.stepSeconds.median,
  });
  const rows = [row('whole step', r.stepSeconds.median, r.stepSeconds.min), ...PHASES.map((p) => row(p, r.phases[p]))];
  rows[0]!.tokensPerSecond = r.tokensPerSecond;
  return {
    case: 'step',
    label: `${(r.parameters / 1e6).toFixed(1)}M parameters, ${r.dtype}, ${words(shape)}`,
    baseline: 'whole step',
    rows,
  };
}

/** Sampling alone, against scoring the same completions in one pass. */
export async function generationCase(shape: StepShape, context: BenchContext): Promise<CaseResult> {
  const policy = await load(shape, context.signal);
  try {
    const prompts = promptsOf(shape, policy.vocabSize);
    const options = { numGenerations: shape.numGenerations, maxNewTokens: shape.maxCompletionLength, ignoreEos: true, seed: 1 };
    const { completions } = await policy.generate(prompts, options);
    const rows = await measure(
      {
        'score the completions': async () => void (await policy.score(prompts, completions)),
        generate: async () => void (await policy.generate(prompts, options)),
      },
      context,
    );
    const tokens = completions.reduce((n, c) => n + c.tokens.length, 0);
    for (const row of rows) row.tokensPerSecond = tokens / row.seconds.median;
    const label = `${(policy.parameterCount / 1e6).toFixed(1)}M parameters, ${policy.dtype}, ${words(shape)}`;
    return { case: 'generation', label, baseline: 'score the completions', rows };
  } finally {
    policy.dispose();
  }
}
