// Under jest (and in any vm context) this package runs in a realm of its own, but addons, and structuredClone, make their arrays, objects and
// errors in the process's first one: there `instanceof Float32Array`, toStrictEqual() and toThrow(RangeError) would fail. Here they become
// those of the realm that the package was loaded in. In the first realm nothing is done.
import { types } from 'node:util';

const CLASSES = [Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array, Uint32Array, BigInt64Array, BigUint64Array];
const ERRORS = [TypeError, RangeError, Error];

/** Whether an object with the prototype of literals is another realm's. */
function isForeignRecord(value: object): value is Record<string, unknown> {
  const prototype = Object.getPrototypeOf(value) as object | null;
  return prototype !== null && prototype !== Object.prototype && Object.getPrototypeOf(prototype) === null && !types.isProxy(value);
}

/** The value with arrays and plain objects of this realm in place of another's; typed arrays keep their memory. */
export function ours<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (types.isTypedArray(value)) {
    const { buffer, byteOffset, length, [Symbol.toStringTag]: kind } = value as ArrayBufferView as Float32Array;
    const Class = CLASSES.find(({ name }) => name === (kind as string)) as Float32ArrayConstructor | undefined;
    return Class && !((value as unknown) instanceof Class) ? (new Class(buffer, byteOffset, length) as unknown as T) : value;
  }
  if (Array.isArray(value)) return value instanceof Array ? value : (Array.from(value, ours) as T);
  return isForeignRecord(value) ? (Object.fromEntries(Object.entries(value).map(([name, of]) => [name, ours(of)])) as T) : value;
}

/** The error as this realm's, with everything that was on it. */
export function ourError(error: unknown): unknown {
  if (error instanceof Error || !types.isNativeError(error)) return error;
  const { name, message, stack, cause } = error;
  const Class = ERRORS.find((of) => of.name === name) ?? Error;
  return Object.assign(new Class(message, cause === undefined ? undefined : { cause }), error, { stack });
}

/** An addon whose functions give and throw what is this realm's. Of classes, calls do (engine/call.ts). */
export function inThisRealm<Addon extends object>(addon: Addon): Addon {
  if (addon instanceof Object) return addon;
  const wrapped = Object.entries(addon).map(
    ([name, value]) => [name, typeof value === 'function' ? calling(value as Call) : value] as const,
  );
  return Object.fromEntries(wrapped) as Addon;
}

type Call = (...args: unknown[]) => unknown;
const calling =
  (fn: Call): Call =>
  (...args: unknown[]): unknown => {
    try {
      return ours(fn(...args));
    } catch (error) {
      throw ourError(error);
    }
  };
