// What a caller passes is read once, here: between the check of a value and its use no getter, Proxy, other thread or overlapping array
// can change it. Everything token-sized that such a change could reach is copied; logits are not (nothing is addressed by their values).
import { types } from 'node:util';
import { FusedGrpoError, invalidType, invalidValue, isRevoked, rejectUnknown } from '../errors.js';

export type Typed = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

const CLASSES = { Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array } as const;

// An array may have properties of its own called `length` or `buffer`, and Symbol.toStringTag can be forged: these getters cannot.
const intrinsic = (name: string | symbol): ((this: unknown) => unknown) =>
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with the array as `this`
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype) as object, name)!.get!;
const lengthGetter = intrinsic('length');
const bufferGetter = intrinsic('buffer');
const classGetter = intrinsic(Symbol.toStringTag);

/** 'Float32Array' and the like; undefined for anything but a typed array. */
export const classOf = (value: unknown): string | undefined => classGetter.call(value) as string | undefined;
/** Elements of a typed array: 0 when its buffer was transferred or shrunk away. */
export const lengthOf = (value: Typed): number => lengthGetter.call(value) as number;
const bufferOf = (value: unknown): unknown => (types.isTypedArray(value) ? bufferGetter.call(value) : undefined);

/** Memory for results; the engine's own RangeError would have no code. */
export function allocate<T extends Typed>(make: () => T): T {
  try {
    return make();
  } catch (cause) {
    throw new FusedGrpoError('ERR_OUT_OF_MEMORY', 'There is not enough memory for the arrays of this call', { cause });
  }
}

/** A copy; of an array whose buffer is gone, an empty one. */
export function copied<T extends Typed>(Class: new (from: Typed | number) => T, from: Typed): T {
  const copy = allocate(() => new Class(lengthOf(from)));
  if (copy.length > 0) copy.set(from);
  return copy;
}

/** The array, or a copy of it where another thread, or the op's own writing into `written`, could change it during the call. */
export function stable<T>(value: T, written?: unknown): T {
  const buffer = bufferOf(value);
  if (buffer === undefined || (buffer !== written && !types.isSharedArrayBuffer(buffer))) return value;
  const Class = CLASSES[classOf(value) as keyof typeof CLASSES] as unknown as (new (from: Typed | number) => Typed) | undefined;
  return Class ? (copied(Class, value as unknown as Typed) as T) : value;
}

/** Throws unless the value is an object with named properties. */
export function record(name: string, value: unknown): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) throw invalidType(name, 'an object', value);
  if (isRevoked(value) || listOf(value)) throw invalidType(name, 'an object', value);
  return value as Record<string, unknown>;
}

/** The value when it is an array. */
export const listOf = (value: unknown): readonly unknown[] | undefined => (!isRevoked(value) && Array.isArray(value) ? value : undefined);

/** What `of` makes of each element; holes are elements, and the first that is wrong ends it. */
export function eachOf<T, R>(name: string, what: string, values: readonly T[], of: (value: T, i: number) => R): R[] {
  const list = listOf(values) as readonly T[] | undefined;
  if (!list) throw invalidType(name, what, values);
  const made: R[] = [];
  for (let i = 0, { length } = list; i < length; ++i) made.push(of(list[i]!, i));
  return made;
}

/**
 * An object's named properties, each read once; unknown ones are refused. Arrays that share memory with other threads, or with the logits
 * (which a call in place writes), are copied.
 */
export function readOnce<T extends object>(where: string, given: T, names: readonly string[], what = where): T {
  rejectUnknown(where, record(what, given), names);
  const read: Record<string, unknown> = {};
  for (const name of names) {
    const value = (given as Record<string, unknown>)[name];
    if (value !== undefined) read[name] = value;
  }
  const written = bufferOf(read.logits);
  for (const [name, value] of Object.entries(read)) if (name !== 'logits') read[name] = stable(value, written);
  return read as T;
}

/**
 * A configuration, each option read once: what is undefined or null counts as not given (a ported TRL config is full of null), what is
 * unknown is refused.
 */
export function readOptions<T extends object>(where: string, given: unknown, names: readonly string[]): T {
  const options = Object.fromEntries(Object.entries(record(where, given)).filter(([, v]) => v !== undefined && v !== null));
  rejectUnknown(where, options, names);
  return options as T;
}

const MOST = 0x7fffffff;

/** Numbers in any of the forms that Rewards has, as a Float64Array that nobody else holds or writes. */
export function doubles(name: string, values: unknown): Float64Array {
  const type = classOf(values);
  if (type === 'Float64Array') return stable(values as Float64Array);
  if (type === 'Float32Array') return copied(Float64Array, values as Float32Array);
  const list = listOf(values);
  if (!list) throw invalidType(name, 'a Float32Array, Float64Array or array of numbers', values);
  const { length } = list;
  if (!(length <= MOST)) throw invalidValue(`${name}.length`, 'less than 2^31', length);
  if (length > 0 && typeof list[0] !== 'number') throw invalidType(`${name}[0]`, 'a number', list[0]); // before memory for an empty, huge array
  const made = allocate(() => new Float64Array(length));
  for (let i = 0; i < length; ++i) {
    const value = list[i];
    if (typeof value !== 'number') throw invalidType(`${name}[${i}]`, 'a number', value);
    made[i] = value;
  }
  return made;
}
