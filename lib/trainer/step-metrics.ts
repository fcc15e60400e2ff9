import { trainedTokens } from './batch.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { RolloutReport } from '../rollouts/stats.js';
import type { NamedReward } from './rewards.js';
import type { Rollout } from './rollout.js';
import type { Trained } from './run-types.js';
import type { StepMetrics } from './types.js';

const known = (values: ArrayLike<number>): number[] => Array.from(values).filter((v) => !Number.isNaN(v));
const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);

function std(values: number[]): number {
  const m = mean(values);
  return values.length < 2 ? 0 : Math.sqrt(values.reduce((s, v) => s + (v - m) ** 2, 0) / (values.length - 1));
}

/** Quantiles with linear interpolation between neighbours (R's type 7, numpy's default); 0 where there are no values. */
export function quantiles(values: readonly number[]): StepMetrics['rewardQuantiles'] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) => {
    const place = q * (sorted.length - 1);
    const low = sorted[Math.floor(place)] ?? 0;
    return low + (place % 1) * ((sorted[Math.ceil(place)] ?? 0) - low);
  };
  return { min: at(0), q25: at(0.25), median: at(0.5), q75: at(0.75), max: at(1) };
}

/** Completions without the reward of a function that failed. */
function failures({ rewardsFailed, rewardsByFunction }: Rollout, rewards: NamedReward[]): Record<string, number> {
  const missing = (name: string) => rewardsByFunction[rewards.findIndex((r) => r.name === name)]!.filter(Number.isNaN).length;
  return Object.fromEntries(rewardsFailed!.map((name) => [name, missing(name)]));
}

interface StepFacts {
  step: number;
  epoch: number;
  skippedSteps: number;
  rollout: Rollout;
  chosen: Int32Array;
  rewards: NamedReward[];
  trained: Trained;
  learningRate: number;
  seconds: StepMetrics['seconds'];
  /** The step is the first on its rollout. */
  fresh: boolean;
  /** Optimizer steps that the policy had seen before this one. */
  policyVersion: number;
  config: ResolvedGRPOConfig;
}

function stalenessOf({ completions, policyVersion }: Rollout, chosen: Int32Array, now: number): StepMetrics['staleness'] {
  const ages = [...chosen].map((i) => now - (completions[i]!.policyVersion ?? policyVersion ?? now));
  return { mean: mean(ages), max: ages.reduce((a, b) => Math.max(a, b), 0) };
}

/** Mean log-prob of the trained tokens by what sampled them, less that by the policy; undefined where not all are known, or others were trained. */
function samplerKlOf({ rollout, chosen, trained, config }: StepFacts): number | undefined {
  const count = trainedTokens(rollout, chosen, config);
  if (count === 0 || trained.tokens !== count) return undefined;
  let sum = 0;
  for (const i of chosen) {
    const { policyVersion, logps, mask, finishReason } = rollout.completions[i]!;
    if (policyVersion === undefined || !logps) return undefined; // its own samples, or log-probs that nobody knows
    if (config.maskTruncatedCompletions && finishReason === 'length') continue;
    logps.forEach((lp, t) => (sum += mask?.[t] === 0 ? 0 : lp));
  }
  return sum / count - trained.meanLogp;
}

/** What is said of servers, for the step that drew the rollout. */
function serverMetrics({ requests, retries, stale, queueSeconds, servers }: RolloutReport): Pick<StepMetrics, 'rollout' | 'servers'> {
  const all = Object.entries(servers);
  return {
    rollout: {
      ...{ requests, retries, stale, queueSeconds: queueSeconds / Math.max(1, requests) },
      serversOut: all.filter(([, s]) => s.outs > 0).length,
    },
    servers: Object.fromEntries(
      all.map(([name, { completions, tokens, busySeconds, failures, outs }]) => [
        name,
        { completions, tokensPerSecond: tokens / Math.max(busySeconds, 1e-9), failures, outs },
      ]),
    ),
  };
}

/** Puts one step's numbers together; statistics of rewards and lengths are over the whole rollout that the step belongs to. */
export function stepMetrics(from: StepFacts): StepMetrics {
  const { rollout, trained, seconds } = from;
  const samplerKl = samplerKlOf(from);
  const lengths = rollout.completions.map((c) => c.tokens.length);
  const tokens = [...from.chosen].reduce(
    (n, i) => n + lengths[i]! + rollout.promptTokens[Math.floor(i / from.config.numGenerations)]!.length,
    0,
  );
  // Completions without a group (numGenerations 1): their spread is that of the rollout.
  const alone = from.config.numGenerations === 1;
  const groupStd = alone ? [std(known(rollout.rewards))] : Array.from(rollout.groupStd);
  return {
    step: from.step,
    epoch: from.epoch,
    loss: trained.loss,
    reward: mean(known(rollout.rewards)),
    rewardStd: mean(known(groupStd)),
    rewardQuantiles: quantiles(known(rollout.rewards)),
    rewards: Object.fromEntries(
      from.rewards
        .map(({ name }, k) => [name, known(rollout.rewardsByFunction[k]!)] as const)
        .filter(([, said]) => said.length > 0)
        .map(([name, said]) => [name, { mean: mean(said), std: std(said) }]),
    ),
    ...(rollout.rewardsFailed ? { rewardFailures: failures(rollout, from.rewards) } : {}),
    fracRewardZeroStd: groupStd.filter((s) => s === 0).length / Math.max(1, groupStd.length),
    ...((trained.kl ?? rollout.kl) === undefined ? {} : { kl: trained.kl ?? rollout.kl }),
    entropy: trained.entropy,
    clipRatio: trained.clipRatio,
    ratio: trained.ratio,
    completionLength: {
      mean: mean(lengths),
      min: lengths.reduce((a, b) => Math.min(a, b), Infinity),
      max: lengths.reduce((a, b) => Math.max(a, b), 0),
    },
    ...(rollout.groupsSampled === undefined ? {} : { groupsSampled: rollout.groupsSampled }),
    staleness: stalenessOf(rollout, from.chosen, from.policyVersion),
    ...(samplerKl === undefined ? {} : { samplerKl }),
    ...(from.fresh && rollout.report ? serverMetrics(rollout.report) : {}),
    ...(trained.ranks ? { ranks: trained.ranks } : {}),
    skippedSteps: from.skippedSteps,
    truncated: rollout.completions.filter((c) => c.finishReason === 'length').length / rollout.completions.length,
    learningRate: from.learningRate,
    gradNorm: trained.gradNorm,
    tokens,
    tokensPerSecond: tokens / Math.max(seconds.total, 1e-9),
    seconds,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
}
