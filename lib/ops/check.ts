// Checks of arguments, in the caller's words.
import { Tensor } from '../engine/tensor.js';
import { incompatible, invalidType, invalidValue } from '../errors.js';
import { allocate, classOf, lengthOf, type Typed } from './inputs.js';
import type { Groups, LogitsDtype, LogitsLayout, SequenceLayout } from './types.js';

const article = (type: string): string => (type === 'Int32Array' ? `an ${type}` : `a ${type}`);

/** A typed array of class `type` with `length` elements. */
export function typed<T extends Typed>(name: string, value: unknown, type: string, length: number): T {
  if (classOf(value) !== type) throw invalidType(name, `${article(type)} of length ${length}`, value);
  if (lengthOf(value as T) !== length) throw invalidValue(name, `${article(type)} of length ${length}`, value);
  return value as T;
}

/** The same; undefined and null pass. */
export function optionalTyped<T extends Typed>(name: string, value: unknown, type: string, length: number): T | undefined {
  return value === undefined || value === null ? undefined : typed<T>(name, value, type, length);
}

/** Elements of the array that decides N. */
export function rowsOf(name: string, value: unknown, type = 'Float32Array'): number {
  if (classOf(value) !== type) throw invalidType(name, article(type), value);
  return lengthOf(value as Typed);
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
  const length = lengthOf(offsets);
  for (let i = 0; i + 1 < length; ++i)
    if (offsets[i]! > offsets[i + 1]!) throw invalidValue(name, `non-decreasing offsets (position ${i})`, offsets);
  if (offsets[0] !== 0) throw invalidValue(`${name}[0]`, '0', offsets[0]);
  if (offsets[length - 1] !== last) throw invalidValue(`${name}[${length - 1}]`, `${last}, the number of ${what}`, offsets[length - 1]);
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
  return evenOffsets(sequences, length);
}

/** Offsets of `count` parts of `size` elements each; count * size is below 2^31. */
export const evenOffsets = (count: number, size: number): Int32Array => {
  const offsets = allocate(() => new Int32Array(count + 1));
  for (let i = 1; i <= count; ++i) offsets[i] = i * size;
  return offsets;
};

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
  const sequences = countOf('offsets', offsets, 'an Int32Array of B+1 offsets');
  monotone('offsets', offsets, rows, `positions (${rowsName}.length)`);
  return { rows, sequences, offsets: offsets };
}

/** How many parts offsets part something into. */
export function countOf(name: string, offsets: unknown, what: string): number {
  if (classOf(offsets) !== 'Int32Array' || lengthOf(offsets as Int32Array) < 1) throw invalidType(name, what, offsets);
  return lengthOf(offsets as Int32Array) - 1;
}

/** Group offsets of B rewards, or of B of what `what` says. */
export function groups(options: Groups, count: number, what = 'rewards'): Int32Array {
  const { numGenerations, groupOffsets } = options;
  if (numGenerations !== undefined && groupOffsets !== undefined)
    throw incompatible('Give either numGenerations or groupOffsets, not both');
  if (groupOffsets !== undefined) {
    countOf('groupOffsets', groupOffsets, 'an Int32Array of groups + 1 offsets');
    monotone('groupOffsets', groupOffsets, count, what);
    return groupOffsets;
  }
  const size = number('numGenerations', numGenerations, { min: 1, integer: true });
  if (count % size !== 0) throw invalidValue('numGenerations', `a divisor of the number of ${what}, ${count},`, size);
  return evenOffsets(count / size, size);
}

const DTYPES = ['float32', 'bfloat16', 'float16'];

/** Logits of any kind: which dtype goes with which class is checked here. */
type AnyLogits<Logits> = LogitsLayout & { logits: Logits; dtype?: LogitsDtype };

function dtypeOf(input: AnyLogits<Tensor | Float32Array | Uint16Array>): number {
  const { logits, dtype } = input;
  if (Tensor.is(logits)) {
    if (dtype !== undefined && dtype !== logits.dtype) throw invalidValue('dtype', `'${logits.dtype}', the Tensor's own,`, dtype);
    return choice('logits.dtype', logits.dtype, DTYPES);
  }
  const half = classOf(logits) === 'Uint16Array';
  if (!half && classOf(logits) !== 'Float32Array')
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
  input: AnyLogits<Logits>,
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
  const held = Tensor.is(input.logits) ? input.logits.length : lengthOf(input.logits);
  if (held < needed || (compact && held !== needed))
    throw invalidValue('logits', `${compact ? '' : 'at least '}${needed} elements (${l.rows} rows of ${vocab})`, input.logits);
  const shape = Tensor.is(input.logits) ? input.logits.shape : undefined;
  if (compact && shape && (shape.length < 2 || shape[shape.length - 1] !== vocab))
    throw invalidValue('logits.shape', `[${l.rows}, ${vocab}]`, `[${shape.join(', ')}]`);
  return { logits: input.logits, dtype, vocab, rowStride, sequenceStride, targets: input.targets };
}

function likeLogits<Logits>(a: LogitsArguments<Logits>, rows: number): Logits {
  if (Tensor.is(a.logits)) return Tensor.uninitialised([rows, a.vocab], a.logits) as Logits;
  return allocate<Float32Array | Uint16Array>(() => new (a.dtype === 0 ? Float32Array : Uint16Array)(rows * a.vocab)) as Logits;
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
