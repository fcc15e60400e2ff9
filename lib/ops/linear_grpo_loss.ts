import { incompatible, invalidType, invalidValue } from '../errors.js';
import { core } from '../native.js';
import { settle } from '../engine/call.js';
import { tensorOps } from '../engine/tensor.js';
import { boolean, layout, number, rowsOf, type Layout } from './check.js';
import { ADVANTAGE_OPTIONS, LOSS_OPTIONS, lossArguments } from './config.js';
import { readOnce, readOptions } from './inputs.js';
import { advantagesOrRewards } from './grpo_loss.js';
import { BATCH_NAMES, batchArguments, lossMetrics } from './policy_loss.js';
import { Tensor, nativeTensors } from './tensors.js';
import type { Entropies } from './selective_logp.js';
import type {
  AdvantageConfig,
  GroupAdvantages,
  LossConfig,
  LossConfigOf,
  LossMetrics,
  LossType,
  NeedsReference,
  PolicyBatch,
  RewardsOrAdvantages,
} from './types.js';

/** What linearGrpoLoss takes: `advantages`, or `rewards` with their groups. N tokens, width H, vocabulary V. */
export type LinearGrpoLossBatch = PolicyBatch &
  RewardsOrAdvantages & {
    /** (N, H) the last hidden states, in front of the head; float32, bfloat16 or float16. */
    hidden: Tensor;
    /** (V, H) the head's weight; dtype and device of hidden. */
    weight: Tensor;
    /** Int32Array(N): the token id of each position. */
    targets: Int32Array;
    /** (V, H) float32: the head's gradient is added to it. Default: a new one of zeros. */
    gradWeight?: Tensor;
  };

export interface LinearGrpoLossConfig extends LossConfig, AdvantageConfig {
  /** Compute the entropy of every selected row. Default true. */
  entropy?: boolean;
  /** Memory for logits, in bytes. Default 256 MB on the CPU, 2 GB on a GPU. */
  workspaceBytes?: number;
  /** No gradient of the head (and one product less). Default false. */
  frozenHead?: boolean;
  /** Leave out tokens of advantage 0 where nothing else could give them a gradient; logps and metrics lack them then. Default false. */
  skipZeroAdvantages?: boolean;
}

/** Entropies are there unless the config says `entropy: false`. */
export type LinearGrpoLossResult<Entropy extends boolean = boolean> = {
  /** Divided by the normalizer; the entropy bonus included. */
  loss: number;
  /** (N, H) d(loss) / d(hidden), in its dtype; 0 behind the mask. */
  gradHidden: Tensor;
  /** (V, H) float32: the one given, or a new one; absent with frozenHead. */
  gradWeight?: Tensor;
  /** (N) */
  logps: Float32Array;
  /** (B), or (N) when given per token. */
  advantages: Float32Array;
  /** Group statistics, when rewards were given. */
  groups?: Omit<GroupAdvantages, 'advantages'>;
  /** Means over the selected tokens. */
  metrics: LossMetrics;
} & Entropies<Entropy>;

const OPTIONS = [...ADVANTAGE_OPTIONS, 'entropy', 'workspaceBytes', 'frozenHead', 'skipZeroAdvantages'];
const BYTES = { float32: 4, bfloat16: 2, float16: 2 } as const;

function matrix(name: string, value: unknown, what: string): Tensor {
  if (!Tensor.is(value) || value.shape.length !== 2) throw invalidType(name, what, value);
  return value;
}

interface Matrices {
  hidden: Tensor;
  weight: Tensor;
  gradWeight: Tensor | undefined;
}

function matrices(batch: LinearGrpoLossBatch, l: Layout): Matrices {
  const hidden = matrix('hidden', batch.hidden, 'a Tensor (N, H)');
  const weight = matrix('weight', batch.weight, 'a Tensor (V, H)');
  const [rows, width] = hidden.shape as [number, number];
  if (!(hidden.dtype in BYTES)) throw invalidValue('hidden.dtype', "'float32', 'bfloat16' or 'float16'", hidden.dtype);
  if (rows !== l.rows) throw invalidValue('hidden.shape', `[${l.rows}, H], a row for each of targets,`, hidden.shape);
  if (weight.shape[1] !== width || weight.shape[0]! < 1)
    throw invalidValue('weight.shape', `[V, ${width}], the width of hidden,`, weight.shape);
  if (weight.dtype !== hidden.dtype || weight.device !== hidden.device)
    throw invalidValue(
      'weight',
      `a Tensor of dtype '${hidden.dtype}' on '${hidden.device}', as hidden,`,
      `${weight.dtype} on ${weight.device}`,
    );
  if (batch.gradWeight === undefined) return { hidden, weight, gradWeight: undefined };
  const gradWeight = matrix('gradWeight', batch.gradWeight, 'a Tensor (V, H)');
  const fits = gradWeight.shape[0] === weight.shape[0] && gradWeight.shape[1] === width;
  if (!fits || gradWeight.dtype !== 'float32' || gradWeight.device !== hidden.device)
    throw invalidValue('gradWeight', `a float32 Tensor of the shape and device of weight`, gradWeight.shape);
  if (gradWeight === weight || gradWeight === hidden)
    throw incompatible('gradWeight must be a Tensor of its own: the gradient is added to it');
  return { hidden, weight, gradWeight };
}

function workspace(value: number | undefined, { hidden, weight }: Matrices): number {
  const row = weight.shape[0]! * BYTES[hidden.dtype as keyof typeof BYTES];
  const bytes = number('workspaceBytes', value ?? (hidden.device === 'cpu' ? 2 ** 28 : 2 ** 31), { above: 0, integer: true });
  if (bytes < row) throw invalidValue('workspaceBytes', `at least ${row} (one row of logits)`, bytes);
  return bytes;
}

/**
 * grpoLoss from hidden states and the head's weight: the logits (N, V) never exist as a whole. Rows are taken in chunks of
 * `workspaceBytes`; each costs three matrix products (two with a frozen head). Losses that depend on whole sequences or on the batch form
 * their logits twice where a sequence does not fit into the workspace, or for statistics of the batch.
 *
 * @returns loss, gradHidden (N, H), gradWeight (V, H) float32, logps (N), advantages, metrics
 * @throws as grpoLoss; tokens and log-probs are checked before any product. After an error a gradWeight that was given holds part of a sum.
 * @see docs/losses.md for the losses
 */
export async function linearGrpoLoss<T extends LossType = LossType, E extends boolean = true, B extends number = number>(
  batch: LinearGrpoLossBatch & NeedsReference<B>,
  config?: Omit<LinearGrpoLossConfig, 'entropy'> & { entropy?: E; beta?: B } & LossConfigOf<T>,
): Promise<LinearGrpoLossResult<E>> {
  return (await onMatrices(batch, config ?? {})) as LinearGrpoLossResult<E>;
}

async function onMatrices(batch: LinearGrpoLossBatch, config: LinearGrpoLossConfig): Promise<LinearGrpoLossResult> {
  const names = [...BATCH_NAMES, 'hidden', 'weight', 'targets', 'gradWeight', 'rewards', 'numGenerations', 'groupOffsets'];
  batch = readOnce('linearGrpoLoss batch', batch, names);
  config = readOptions<LinearGrpoLossConfig>('linearGrpoLoss config', config, [...LOSS_OPTIONS, ...OPTIONS]);
  const loss = lossArguments('linearGrpoLoss config', config, OPTIONS);
  const { targets } = batch;
  const l = layout(batch, rowsOf('targets', targets, 'Int32Array'), 'targets');
  const tensors = matrices(batch, l);
  const { rewardArguments: rewards, ...advantages } = advantagesOrRewards(batch, config, l);
  const options = {
    entropy: boolean('entropy', config.entropy ?? true),
    workspaceBytes: workspace(config.workspaceBytes, tensors),
    skipZeroAdvantages: boolean('skipZeroAdvantages', config.skipZeroAdvantages ?? false),
  };
  const frozen = boolean('frozenHead', config.frozenHead ?? false);
  if (frozen && batch.gradWeight) throw incompatible('frozenHead: no gradient is formed; leave gradWeight out');
  const token = { ...batchArguments(batch, l, loss), targets, ...options };
  const made = rewards ? core().groupAdvantages(rewards) : { advantages: advantages.advantages as Float32Array };
  const gradHidden = Tensor.uninitialised([...tensors.hidden.shape], tensors.hidden);
  const gradWeight = frozen ? undefined : (tensors.gradWeight ?? Tensor.zeros([...tensors.weight.shape], tensors.hidden.device));
  const args = nativeTensors({ ...token, ...advantages, ...made, ...tensors, gradHidden, gradWeight });
  const out = await settle(() => tensorOps().linearGrpoLoss(args));
  const { advantages: values, ...groups } = made;
  return {
    loss: out.metrics.loss,
    gradHidden,
    ...(gradWeight ? { gradWeight } : {}),
    logps: out.logps,
    advantages: values,
    ...(out.entropies ? { entropies: out.entropies } : {}),
    ...('mean' in groups ? { groups: groups } : {}),
    metrics: lossMetrics(out.metrics, loss.beta > 0, options.entropy),
  };
}
