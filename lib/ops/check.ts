// Checks of arguments, in the caller's words.
import { Tensor } from '../engine/tensor.js';
import { incompatible, invalidType, invalidValue } from '../errors.js';
import type { Groups, LogitsInput, SequenceLayout } from './types.js';

type Typed = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

export function record(name: string, value: unknown): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value) || Array.isArray(value))
    throw invalidType(name, 'an object', value);
  return value as Record<string, unknown>;
}

const isA = (value: unknown, name: string): boolean => Object.prototype.toString.call(value) === `[object ${name}]`;

/** A typed array of class `type` with `length` elements; undefined passes when optional. */
export function typed<T extends Typed>(name: string, value: unknown, type: string, length: number): T {
  if (!isA(value, type)) throw invalidType(name, `a ${type} of length ${length}`, value);
  if ((value as T).length !== length) throw invalidValue(name, `a ${type} of length ${length}`, value);
  return value as T;
}

export function optionalTyped<T extends Typed>(name: string, value: unknown, type: string, length: number): T | undefined {
  return value === undefined || value === null ? undefined : typed<T>(name, value, type, length);
}

/** Numbers in any of the forms that Rewards has, as a Float64Array. */
export function doubles(name: string, values: unknown): Float64Array {
  if (isA(values, 'Float64Array')) return values as Float64Array;
  if (isA(values, 'Float32Array')) return Float64Array.from(values as Float32Array);
  if (!Array.isArray(values)) throw invalidType(name, 'a Float32Array, Float64Array or array of numbers', values);
  values.forEach((v, i) => {
    if (typeof v !== 'number') throw invalidType(`${name}[${i}]`, 'a number', v);
  });
  return Float64Array.from(values as number[]);
}

export interface Bounds {
  min?: number;
  above?: number;
  max?: number;
  integer?: boolean;
}

export function number(name: string, value: unknown, bounds: Bounds = {}): number {
  const { min, above, max, integer } = bounds;
  const what = [
    integer ? 'an integer' : 'a finite number',
    min !== undefined ? `>= ${min}` : above !== undefined ? `> ${above}` : '',
    max !== undefined ? `and <= ${max}` : '',
  ];
  const text = what.filter(Boolean).join(' ');
  if (typeof value !== 'number') throw invalidType(name, text, value);
  const good =
    Number.isFinite(value) &&
    (!integer || Number.isSafeInteger(value)) &&
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max);
  if (!good) throw invalidValue(name, text, value);
  return value;
}

export function boolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'true or false', value);
  return value;
}

/** The index of a name in a list: the native enums have the same order. */
export function choice(name: string, value: unknown, names: readonly string[]): number {
  const index = names.indexOf(value as string);
  if (index < 0) throw invalidValue(name, `one of ${names.map((n) => `'${n}'`).join(', ')}`, value);
  return index;
}

/** First 0, then non-decreasing, then `last`, the number of `what`. */
export function monotone(name: string, offsets: Int32Array, last: number, what: string): void {
  for (let i = 0; i + 1 < offsets.length; ++i)
    if (offsets[i]! > offsets[i + 1]!) throw invalidValue(name, `non-decreasing offsets (position ${i})`, offsets);
  if (offsets[0] !== 0) throw invalidValue(`${name}[0]`, '0', offsets[0]);
  if (offsets[offsets.length - 1] !== last)
    throw invalidValue(`${name}[${offsets.length - 1}]`, `${last}, the number of ${what}`, offsets[offsets.length - 1]);
}

export interface Layout {
  rows: number;
  sequences: number;
  offsets: Int32Array;
}

function rectangular(length: number, rows: number, rowsName: string): Int32Array {
  if (length === 0 ? rows !== 0 : rows % length !== 0)
    throw invalidValue('completionLength', `a divisor of ${rowsName}.length ${rows}`, length);
  const sequences = length === 0 ? 0 : rows / length;
  return Int32Array.from({ length: sequences + 1 }, (_, i) => i * length);
}

/** `rows` is the length of the array called `rowsName`, which decides N. */
export function layout(batch: SequenceLayout, rows: number, rowsName: string): Layout {
  const { offsets, completionLength } = batch;
  if (rows > 0x7fffffff) throw invalidValue(`${rowsName}.length`, 'less than 2^31', rows);
  if (offsets !== undefined && completionLength !== undefined) throw incompatible('Give either offsets or completionLength, not both');
  if (offsets === undefined && completionLength === undefined)
    throw invalidType('offsets', 'an Int32Array of B+1 offsets (or completionLength for a rectangular batch)', undefined);
  if (completionLength !== undefined) {
    number('completionLength', completionLength, { min: 0, integer: true });
    const made = rectangular(completionLength, rows, rowsName);
    return { rows, sequences: made.length - 1, offsets: made };
  }
  if (!isA(offsets, 'Int32Array') || offsets!.length < 1) throw invalidType('offsets', 'an Int32Array of B+1 offsets', offsets);
  monotone('offsets', offsets!, rows, `positions (${rowsName}.length)`);
  return { rows, sequences: offsets!.length - 1, offsets: offsets! };
}

/** Group offsets of B rewards, or of B of what `what` says. */
export function groups(options: Groups, count: number, what = 'rewards'): Int32Array {
  const { numGenerations, groupOffsets } = options;
  if (numGenerations !== undefined && groupOffsets !== undefined)
    throw incompatible('Give either numGenerations or groupOffsets, not both');
  if (groupOffsets !== undefined) {
    if (!isA(groupOffsets, 'Int32Array') || groupOffsets.length < 1)
      throw invalidType('groupOffsets', 'an Int32Array of groups + 1 offsets', groupOffsets);
    monotone('groupOffsets', groupOffsets, count, what);
    return groupOffsets;
  }
  const size = number('numGenerations', numGenerations, { min: 1, integer: true });
  if (count % size !== 0) throw invalidValue('numGenerations', `a divisor of the number of ${what}, ${count},`, size);
  return Int32Array.from({ length: count / size + 1 }, (_, i) => i * size);
}

const DTYPES = ['float32', 'bfloat16', 'float16'];

function dtypeOf(input: LogitsInput<Tensor | Float32Array | Uint16Array>): number {
  const { logits, dtype } = input;
  if (logits instanceof Tensor) {
    if (dtype !== undefined && dtype !== logits.dtype) throw invalidValue('dtype', `'${logits.dtype}', the Tensor's own,`, dtype);
    return choice('logits.dtype', logits.dtype, DTYPES);
  }
  const half = isA(logits, 'Uint16Array');
  if (!half && !isA(logits, 'Float32Array'))
    throw invalidType('logits', "a Float32Array, a Uint16Array with dtype 'bfloat16' or 'float16', or a Tensor", logits);
  const index = choice('dtype', dtype ?? (half ? undefined : 'float32'), half ? DTYPES.slice(1) : DTYPES.slice(0, 1));
  return half ? index + 1 : 0;
}

export interface LogitsArguments<Logits = Float32Array | Uint16Array> {
  logits: Logits;
  dtype: number;
  vocab: number;
  rowStride: number;
  sequenceStride: number;
  targets: Int32Array;
}

/** Elements that the rows reach to. */
function extent(l: Layout, vocab: number, rowStride: number, sequenceStride: number): number {
  if (sequenceStride === 0) return l.rows > 0 ? (l.rows - 1) * rowStride + vocab : 0;
  let end = 0;
  for (let s = 0; s < l.sequences; ++s) {
    const length = l.offsets[s + 1]! - l.offsets[s]!;
    if (length > 0) end = Math.max(end, s * sequenceStride + (length - 1) * rowStride + vocab);
  }
  return end;
}

export function logitsArguments<Logits extends Tensor | Float32Array | Uint16Array>(
  input: LogitsInput<Logits>,
  l: Layout,
): LogitsArguments<Logits> {
  const dtype = dtypeOf(input);
  const vocab = number('vocabSize', input.vocabSize, { min: 1, integer: true });
  const rowStride = number('rowStride', input.rowStride ?? vocab, { min: vocab, integer: true });
  const sequenceStride = number('sequenceStride', input.sequenceStride ?? 0, { min: 0, integer: true });
  for (let s = 0; sequenceStride > 0 && s < l.sequences; ++s) {
    const used = (l.offsets[s + 1]! - l.offsets[s]! - 1) * rowStride + vocab;
    if (used > sequenceStride) throw invalidValue('sequenceStride', `at least ${used} (the rows of sequence ${s})`, sequenceStride);
  }
  const needed = extent(l, vocab, rowStride, sequenceStride);
  const compact = rowStride === vocab && sequenceStride === 0;
  if (input.logits.length < needed || (compact && input.logits.length !== needed))
    throw invalidValue('logits', `${compact ? '' : 'at least '}${needed} elements (${l.rows} rows of ${vocab})`, input.logits);
  const shape = input.logits instanceof Tensor ? input.logits.shape : undefined;
  if (compact && shape && (shape.length < 2 || shape[shape.length - 1] !== vocab))
    throw invalidValue('logits.shape', `[${l.rows}, ${vocab}]`, `[${shape.join(', ')}]`);
  return { logits: input.logits, dtype, vocab, rowStride, sequenceStride, targets: input.targets };
}

function likeLogits<Logits>(a: LogitsArguments<Logits>, rows: number): Logits {
  if (a.logits instanceof Tensor) return Tensor.uninitialised([rows, a.vocab], a.logits) as Logits;
  return (a.dtype === 0 ? new Float32Array(rows * a.vocab) : new Uint16Array(rows * a.vocab)) as Logits;
}

/** Where the gradient goes: the logits' own memory, or a new compact (N, V) array. */
export function gradientArguments<Logits>(a: LogitsArguments<Logits>, rows: number, inPlace: boolean) {
  if (inPlace) return { gradLogits: a.logits, gradRowStride: a.rowStride, gradSequenceStride: a.sequenceStride };
  return { gradLogits: likeLogits(a, rows), gradRowStride: a.vocab, gradSequenceStride: 0 };
}

export function temperature(value: unknown): number {
  const t = number('temperature', value ?? 1, { above: 0 });
  if (!Number.isFinite(Math.fround(Math.LOG2E / t)) || Math.fround(Math.LOG2E / t) === 0)
    throw invalidValue('temperature', 'a number whose inverse fits float32', t);
  return t;
}

/** @internal */
export const invalidRewards = (rewards: unknown, sequences: number) =>
  invalidValue('rewards', `one reward per sequence (${sequences})`, rewards);
