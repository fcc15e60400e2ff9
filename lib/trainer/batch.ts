// What of a rollout one optimizer step trains on, as the engine takes it.
import type { TrainBatch } from '../engine/training.js';
import type { Ranks } from '../distributed/ranks.js';
import { fairCuts } from '../distributed/share.js';
import { permutation } from '../random.js';
import type { ResolvedGRPOConfig } from './config.js';
import type { Completion, Rollout } from './rollout.js';

/** Which completions the next optimizer step on this rollout trains on: shuffled parts of equal size, the same in every iteration. */
export function minibatch(rollout: Rollout, config: ResolvedGRPOConfig): Int32Array {
  const count = rollout.completions.length;
  const parts = count / config.stepCompletions;
  if (parts === 1) return Int32Array.from({ length: count }, (_, i) => i);
  const order = permutation(count, config.seed, rollout.index, 1);
  const part = rollout.used % parts;
  return order.slice(part * config.stepCompletions, (part + 1) * config.stepCompletions);
}

/** Those of the chosen that this rank trains on: a stretch of them, of about as many tokens as each other rank's. */
export function ownPart(
  rollout: Rollout,
  chosen: Int32Array,
  { numGenerations }: Pick<ResolvedGRPOConfig, 'numGenerations'>,
  { rank, worldSize }: Pick<Ranks, 'rank' | 'worldSize'>,
): Int32Array {
  if (worldSize === 1) return chosen;
  // A prompt that a group shares is computed once.
  const costs = Array.from(
    chosen,
    (i) => rollout.completions[i]!.tokens.length + rollout.promptTokens[Math.floor(i / numGenerations)]!.length / numGenerations,
  );
  const cuts = fairCuts(costs, worldSize);
  return chosen.slice(cuts[rank], cuts[rank + 1]);
}

export function concatenate<T extends Int32Array | Float32Array>(arrays: T[], make: new (n: number) => T): T {
  const all = new make(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** Completion tokens of the chosen that carry a loss. */
export function trainedTokens(rollout: Rollout, chosen: Int32Array, config: Pick<ResolvedGRPOConfig, 'maskTruncatedCompletions'>): number {
  let tokens = 0;
  for (const i of chosen) {
    const completion = rollout.completions[i]!;
    if (config.maskTruncatedCompletions && completion.finishReason === 'length') continue;
    tokens += completion.mask ? completion.mask.reduce((n, own) => n + own, 0) : completion.tokens.length;
  }
  return tokens;
}

function masksOf(completions: Completion[]): Uint8Array | undefined {
  if (!completions.some((c) => c.mask)) return undefined;
  return Uint8Array.from(completions.flatMap(({ tokens, mask }) => [...(mask ?? new Uint8Array(tokens.length).fill(1))]));
}

/** The chosen completions as the engine takes them. */
export function toBatch(rollout: Rollout, chosen: Int32Array, { numGenerations }: Pick<ResolvedGRPOConfig, 'numGenerations'>): TrainBatch {
  const picks = [...chosen];
  const pairs = picks.map((i) => [rollout.promptTokens[Math.floor(i / numGenerations)]!, rollout.completions[i]!.tokens] as const);
  const offsets = new Int32Array(picks.length + 1);
  pairs.forEach(([prompt, completion], k) => (offsets[k + 1] = offsets[k]! + prompt.length + completion.length));
  const pick = (logps?: Float32Array[]) =>
    logps &&
    concatenate(
      picks.map((i) => logps[i]!),
      Float32Array,
    );
  return {
    tokens: concatenate(pairs.flat(), Int32Array),
    offsets,
    promptLengths: Int32Array.from(pairs, ([prompt]) => prompt.length),
    advantages: pick(rollout.tokenAdvantages) ?? Float32Array.from(picks, (i) => rollout.advantages[i]!),
    truncated: Uint8Array.from(picks, (i) => (rollout.completions[i]!.finishReason === 'length' ? 1 : 0)),
    oldLogps: pick(rollout.oldLogps),
    refLogps: pick(rollout.refLogps),
    mask: masksOf(picks.map((i) => rollout.completions[i]!)),
    samplerLogps: rollout.correction && pick(rollout.completions.map((c) => c.logps!)),
  };
}
