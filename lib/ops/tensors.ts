// The logits ops on the engine's tensors: the same checks, the same arguments, on the engine's thread.
import { isRevoked } from '../errors.js';
import type { LogitsDtype } from './types.js';
import { Tensor } from '../engine/tensor.js';

/** An input whose logits are a Tensor; its token-sized arrays may be Tensors too, and are read first. */
export type OnTensor<Input> = {
  [Name in keyof Input]: Name extends 'logits'
    ? Tensor
    : NonNullable<Input[Name]> extends Float32Array | Int32Array | Uint8Array
      ? Input[Name] | Tensor
      : Name extends 'dtype'
        ? LogitsDtype
        : Input[Name];
};

/** Whether the op's input asks for the engine. */
export const onTensor = (input: unknown): boolean =>
  !isRevoked(input) && Tensor.is((input as { logits?: unknown } | null | undefined)?.logits);

/** Token-sized arrays that are Tensors, as typed arrays. Waits, even for none: ask needsReading() first, so that calls keep their order. */
export async function hostArrays<Input extends object>(input: Input): Promise<Input> {
  const entries = Object.entries(input).filter(([name, value]) => name !== 'logits' && Tensor.is(value));
  const arrays = await Promise.all(entries.map(async ([name, tensor]) => [name, await (tensor as Tensor).toArray()] as const));
  return { ...input, ...Object.fromEntries(arrays) };
}

/** Whether hostArrays() has anything to read. */
export const needsReading = (input: object): boolean =>
  Object.entries(input).some(([name, value]) => name !== 'logits' && Tensor.is(value));

/** Arguments for the engine's ops: native handles in place of Tensors. */
export function nativeTensors<Args extends object>(args: Args): object {
  return Object.fromEntries(Object.entries(args).map(([name, value]) => [name, Tensor.is(value) ? value.native : (value as unknown)]));
}

export { Tensor };
