import { incompatible } from '../errors.js';
import { core } from '../native.js';
import { boolean, gradientArguments, invalidRewards, layout, logitsArguments, rowsOf, type Layout } from './check.js';
import { ADVANTAGE_OPTIONS, LOSS_OPTIONS, lossArguments } from './config.js';
import { readOnce, readOptions } from './inputs.js';
import { rewardArguments } from './group_advantages.js';
import { BATCH_NAMES, advantagesArguments, batchArguments, lossMetrics } from './policy_loss.js';
import { settle } from '../engine/call.js';
import { tensorOps } from '../engine/tensor.js';
import { LOGITS_NAMES } from './selective_logp.js';
import { hostArrays, nativeTensors, needsReading, onTensor, type OnTensor, type Tensor } from './tensors.js';
import type { NativeAdvantages, NativeMetrics } from './addon.js';
import type { Entropies } from './selective_logp.js';
import type {
  AdvantageConfig,
  GroupAdvantages,
  GradientOf,
  LogitsInput,
  LossConfig,
  LossConfigOf,
  LossMetrics,
  LossType,
  NeedsReference,
  PolicyBatch,
  RewardsOrAdvantages,
} from './types.js';

/** What grpoLoss takes: logits, where sequences begin and end, and `advantages`, or `rewards` with their groups. */
export type GrpoLossBatch = LogitsInput & PolicyBatch & RewardsOrAdvantages;

export interface GrpoLossConfig extends LossConfig, AdvantageConfig {
  /** Compute the entropy of every selected row. Default true; the gradient does not depend on it unless entropyCoef is not 0. */
  entropy?: boolean;
  /** Default true: gradLogits is the logits' own memory. Otherwise a new compact (N, V) array. */
  inPlace?: boolean;
}

/** Entropies are there unless the config says `entropy: false`. */
export type GrpoLossResult<Logits = Float32Array | Uint16Array, Entropy extends boolean = boolean> = {
  /** Divided by the normalizer; the entropy bonus included. */
  loss: number;
  /** d(loss) / d(logits) in the logits' dtype, 1 / temperature included; rows behind the mask are exactly 0. */
  gradLogits: Logits;
  /** (N) */
  logps: Float32Array;
  /** (B), or (N) when given per token. */
  advantages: Float32Array;
  /** Group statistics, when rewards were given. */
  groups?: Omit<GroupAdvantages, 'advantages'>;
  /** Means over the selected tokens. */
  metrics: LossMetrics;
} & Entropies<Entropy>;

/** LossConfig and AdvantageConfig with the op's own options; the lossType says what else is needed. */
export type GrpoLossConfigOf<T extends LossType, E extends boolean, B extends number = number> = Omit<GrpoLossConfig, 'entropy'> & {
  entropy?: E;
  beta?: B;
} & LossConfigOf<T>;

interface AdvantageArguments {
  advantages?: unknown;
  advantagesPerToken?: unknown;
  rewardArguments?: object;
}

/** Advantages as given, or the arguments that make them from rewards. @internal */
export function advantagesOrRewards(batch: RewardsOrAdvantages, config: AdvantageConfig, l: Layout): AdvantageArguments {
  if (batch.rewards === undefined) {
    if (batch.numGenerations !== undefined || batch.groupOffsets !== undefined)
      throw incompatible('numGenerations and groupOffsets describe rewards; give rewards, or leave them out');
    return advantagesArguments(batch.advantages, l);
  }
  if (batch.advantages !== undefined) throw incompatible('Give either rewards or advantages, not both');
  const made = rewardArguments(batch.rewards, batch, config);
  if (made.count !== l.sequences) throw invalidRewards(batch.rewards, l.sequences);
  return { rewardArguments: made, advantagesPerToken: false };
}

/** With logits in a Tensor: on its device, off the event loop; rewards become advantages before, on the CPU. */
export function grpoLoss<T extends LossType = LossType, E extends boolean = true, B extends number = number>(
  batch: OnTensor<GrpoLossBatch> & OnTensor<NeedsReference<B>>,
  config?: GrpoLossConfigOf<T, E, B>,
): Promise<GrpoLossResult<Tensor, E>>;
/**
 * GRPO's loss and the gradient of the logits in one native call: rewards -> advantages -> log-probs -> ratio -> clip -> KL ->
 * gradient, with one read and one write of the logits.
 *
 * @param batch logits (N, V), targets (N), layout, advantages or rewards, and optionally oldLogps, refLogps, mask, truncated
 * @param config LossConfig; for rewards also AdvantageConfig; inPlace (default true); entropy (default true)
 * @throws RangeError naming the position of a bad target, log-prob or advantage (nothing has been written then), or the row with NaN,
 *   +Infinity or no finite logit (logits given in place are lost then: that row's gradient is 0, the others are valid)
 * @example
 * const { loss, gradLogits, metrics } = grpoLoss(
 *   { logits, vocabSize: 151936, targets, oldLogps, rewards: [1, 0, 0, 1], numGenerations: 4, completionLength: 128 },
 *   { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 },
 * );
 */
export function grpoLoss<
  T extends LossType = LossType,
  E extends boolean = true,
  B extends number = number,
  Logits extends Float32Array | Uint16Array = Float32Array | Uint16Array,
>(batch: GrpoLossBatch & { logits: Logits } & NeedsReference<B>, config?: GrpoLossConfigOf<T, E, B>): GrpoLossResult<GradientOf<Logits>, E>;
export function grpoLoss(
  batch: GrpoLossBatch | OnTensor<GrpoLossBatch>,
  config: GrpoLossConfig = {},
): GrpoLossResult | Promise<GrpoLossResult<Tensor>> {
  if (onTensor(batch)) return grpoLossOnTensor(batch as GrpoLossBatch, config);
  const checked = grpoArguments(batch as GrpoLossBatch, config);
  return resultOf(core().grpoLoss(checked.native), checked);
}

async function grpoLossOnTensor(given: GrpoLossBatch, config: GrpoLossConfig): Promise<GrpoLossResult<Tensor>> {
  const checked = grpoArguments(needsReading(given) ? await hostArrays(given) : given, config);
  const { rewardArguments: rewards, advantages, ...rest } = checked.native;
  const made = rewards ? core().groupAdvantages(rewards) : { advantages: advantages as Float32Array };
  const args = nativeTensors({ ...rest, advantages: made.advantages });
  const out = await settle(() => tensorOps().grpoLoss(args));
  return resultOf({ ...out, ...made }, checked) as GrpoLossResult<unknown> as GrpoLossResult<Tensor>;
}

type NativeResult = {
  logps: Float32Array;
  advantages: Float32Array;
  entropies?: Float32Array;
  metrics: NativeMetrics;
} & Partial<Omit<NativeAdvantages, 'advantages'>>;

function resultOf(out: NativeResult, { native, withKl, entropy }: ReturnType<typeof grpoArguments>): GrpoLossResult {
  return {
    loss: out.metrics.loss,
    gradLogits: native.gradLogits,
    logps: out.logps,
    advantages: out.advantages,
    ...(out.entropies ? { entropies: out.entropies } : {}),
    ...(out.mean ? { groups: { mean: out.mean, std: out.std!, zeroStd: out.zeroStd! } } : {}),
    metrics: lossMetrics(out.metrics, withKl, entropy),
  };
}

/** The checked native arguments, also those of the unfused reference. @internal */
export function grpoArguments(batch: GrpoLossBatch, config: GrpoLossConfig = {}) {
  const names = [...BATCH_NAMES, ...LOGITS_NAMES, 'rewards', 'numGenerations', 'groupOffsets'];
  batch = readOnce('grpoLoss batch', batch, names);
  const more = [...ADVANTAGE_OPTIONS, 'entropy', 'inPlace'];
  config = readOptions<GrpoLossConfig>('grpoLoss config', config, [...LOSS_OPTIONS, ...more]);
  const loss = lossArguments('grpoLoss config', config, more);
  const l = layout(batch, rowsOf('targets', batch.targets, 'Int32Array'), 'targets');
  const entropy = boolean('entropy', config.entropy ?? true);
  const logits = logitsArguments<Float32Array | Uint16Array>(batch, l);
  const native = {
    ...batchArguments(batch, l, loss),
    ...advantagesOrRewards(batch, config, l),
    ...logits,
    ...gradientArguments(logits, l.rows, boolean('inPlace', config.inPlace ?? true)),
    entropy,
  };
  return { native, withKl: loss.beta > 0, entropy };
}
