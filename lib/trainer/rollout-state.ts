// A rollout inside a checkpoint.
import type { Completion, Rollout } from './rollout.js';

/** A rollout as JSON (float32 values survive exactly) and back. */
export function encodeRollout(rollout: Rollout): unknown {
  return JSON.parse(
    JSON.stringify(rollout, (_key, value: unknown) =>
      ArrayBuffer.isView(value) ? Array.from(value as Float32Array, (v) => (Number.isNaN(v) ? null : v)) : value,
    ),
  );
}

export function decodeRollout(json: unknown): Rollout {
  const plain = json as { [K in keyof Rollout]: unknown } & { completions: { tokens: number[]; logps?: number[]; mask?: number[] }[] };
  const doubles = (values: unknown) => Float64Array.from(values as (number | null)[], (v) => v ?? NaN);
  const floats = (values: unknown) => (values as number[][] | undefined)?.map((v) => Float32Array.from(v));
  return {
    ...(plain as unknown as Rollout),
    promptTokens: (plain.promptTokens as number[][]).map((t) => Int32Array.from(t)),
    completions: plain.completions.map((c) => ({
      ...(c as unknown as Completion),
      tokens: Int32Array.from(c.tokens),
      ...(c.logps && { logps: Float32Array.from(c.logps) }),
      ...(c.mask && { mask: Uint8Array.from(c.mask) }),
    })),
    rewards: doubles(plain.rewards),
    rewardsByFunction: (plain.rewardsByFunction as unknown[]).map(doubles),
    advantages: Float32Array.from(plain.advantages as number[]),
    tokenAdvantages: floats(plain.tokenAdvantages),
    groupStd: Float32Array.from(plain.groupStd as number[]),
    values: floats(plain.values),
    returns: floats(plain.returns),
    oldLogps: floats(plain.oldLogps),
    refLogps: floats(plain.refLogps),
  };
}
