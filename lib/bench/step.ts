// A whole training step (generate, reward, score, gradients, optimizer) as GRPOTrainer makes it, on prompts of a given length; and
// generation alone. End tokens are ignored, so that every completion has the same length.
import { Policy } from '../engine/policy.js';
import { Training } from '../engine/training.js';
import { FusedGrpoError } from '../errors.js';
import { resolveGRPOConfig } from '../trainer/config.js';
import { stepLoss } from '../trainer/loss.js';
import type { AnyRewardInput } from '../trainer/reward-types.js';
import { nameRewards } from '../trainer/rewards.js';
import { minibatch, toBatch, trainedTokens } from '../trainer/batch.js';
import { drawRollout, type RolloutContext } from '../trainer/rollout.js';
import { noise } from './data.js';
import { measure, summary, type BenchContext, type CaseResult, type Row, type Seconds } from './measure.js';
import type { OpenPeers } from './peers/peers.js';
import { openStepPeers, peerStepRows, peerSteps, runPeers, type PeersStep } from './peers/step.js';

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
  /** Tokens of a micro-batch, a shared prompt once; 0: as the trainer chooses. */
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
  /** With peers: their steps in the same rounds. */
  peers?: PeersStep;
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
const evenTokens = ({ completionTokens }: AnyRewardInput): number[] =>
  completionTokens.map((tokens) => tokens.filter((id) => id % 2 === 0).length / tokens.length);

interface Laps {
  total: number;
  phases: Record<Phase, number>;
}

async function makeStep(context: RolloutContext, training: Training, prompts: Int32Array[], index: number): Promise<Laps> {
  const { config, signal } = context;
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
  const batch = toBatch(rollout, chosen, config);
  const loss = stepLoss(config, trainedTokens(rollout, chosen, config), chosen.length);
  const before = performance.now();
  await training.accumulate(batch, loss, { microBatchTokens: config.microBatchTokens, fused: true, signal });
  const middle = performance.now();
  await training.optimizerStep(config);
  const end = performance.now();
  const phases = { ...rollout.seconds, train: (middle - before) / 1000, optimizer: (end - middle) / 1000 };
  return { total: (end - begin) / 1000, phases };
}

interface Measured {
  laps: Laps[];
  completions: number;
  parameters: number;
  dtype: string;
  /** What became of the peers; their processes have ended. */
  open?: OpenPeers;
}

/** Makes `rounds` steps after one that is not counted; peers make theirs after each of ours. */
async function measureSteps(shape: StepShape, context: BenchContext, onStep?: (done: number) => void): Promise<Measured> {
  const { signal, rounds, peers } = context;
  const policy = await load(shape, signal);
  const reference = shape.beta > 0 ? await policy.clone() : undefined;
  let open: OpenPeers | undefined;
  try {
    const { numGenerations, maxCompletionLength, beta, microBatchTokens } = shape;
    const completions = shape.prompts * numGenerations;
    const batch = { perDeviceTrainBatchSize: completions, gradientAccumulationSteps: 1, microBatchTokens };
    const config = resolveGRPOConfig({ numGenerations, maxCompletionLength, beta, ...batch });
    const rewards = nameRewards(evenTokens, undefined);
    const rollout: RolloutContext = { policy, reference, rewards, config, signal, ignoreEos: true };
    const training = new Training(policy);
    const prompts = promptsOf(shape, policy.vocabSize);
    open = peers && (await openStepPeers(peers, shape, prompts, policy.dtype));
    const laps: Laps[] = [];
    for (let i = 0; i <= rounds; ++i) {
      const lap = await makeStep(rollout, training, prompts, i);
      if (i > 0) laps.push(lap);
      await runPeers(open, completions * maxCompletionLength, i > 0);
      onStep?.(i);
    }
    return { laps, completions, parameters: policy.parameterCount, dtype: policy.dtype, open };
  } finally {
    await open?.close();
    reference?.dispose();
    policy.dispose();
  }
}

const secondsOf = (laps: Laps[], phase: Phase): Seconds => summary(laps.map((l) => l.phases[phase]));

export async function benchStep(shape: StepShape, context: BenchContext, onStep?: (done: number) => void): Promise<StepResult> {
  const { laps, completions, parameters, dtype, open } = await measureSteps(shape, context, onStep);
  const totals = laps.map((l) => l.total);
  const { median, min } = summary(totals);
  const generatedTokens = completions * shape.maxCompletionLength;
  return {
    stepSeconds: { median, min },
    phases: Object.fromEntries(PHASES.map((p) => [p, secondsOf(laps, p).median])) as Record<Phase, number>,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    generatedTokens,
    tokensPerSecond: generatedTokens / median,
    steps: laps.length,
    parameters,
    dtype,
    ...(open && { peers: { versions: context.peers!.versions, steps: peerSteps(open, totals), notes: open.notes } }),
  };
}

const labelOf = (s: StepShape, parameters: number, dtype: string): string =>
  `${(parameters / 1e6).toFixed(1)}M parameters, ${dtype}, ${s.prompts} x ${s.numGenerations} completions, ${s.promptLength} + ${s.maxCompletionLength} tokens`;

/** The step as a case of the suite: its parts against the whole. */
export async function stepCase(shape: StepShape, context: BenchContext): Promise<CaseResult> {
  const { laps, completions, parameters, dtype, open } = await measureSteps(shape, context);
  const totals = laps.map((l) => l.total);
  const whole = summary(totals);
  const parts = PHASES.map((name): Row => {
    const seconds = secondsOf(laps, name);
    return { name, seconds, perBaseline: seconds.median / whole.median };
  });
  const tokens = completions * shape.maxCompletionLength;
  const first = { name: 'whole step', seconds: whole, perBaseline: 1, tokensPerSecond: tokens / whole.median };
  const rows = [first, ...parts, ...peerStepRows(open, totals, tokens)];
  return { case: 'step', label: labelOf(shape, parameters, dtype), baseline: 'whole step', rows, notes: open?.notes };
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
    const label = labelOf(shape, policy.parameterCount, policy.dtype);
    return { case: 'generation', label, baseline: 'score the completions', rows };
  } finally {
    policy.dispose();
  }
}
