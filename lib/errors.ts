import { otherCopy } from './place.js';

/** Every error of this package that a caller may want to tell apart carries one of these codes. */
export type ErrorCode =
  | 'ERR_INVALID_ARG' // wrong type or value of an argument or option
  | 'ERR_UNKNOWN_OPTION' // an option name that does not exist; the message names the nearest one
  | 'ERR_INCOMPATIBLE_OPTIONS' // options that cannot go together
  | 'ERR_NON_FINITE' // NaN or infinity where a finite number is needed
  | 'ERR_NOT_BUILT' // an addon is missing, or not made for this package and machine; the message says why and what to do
  | 'ERR_NO_CUDA' // CUDA was asked for and is not there; the message says why
  | 'ERR_CUDA' // a GPU call failed; the message names kernel, file and line
  | 'ERR_OUT_OF_MEMORY' // of the device or the machine; nothing is lost, a smaller call may succeed
  | 'ERR_DISPOSED'
  | 'ERR_ABORTED'
  | 'ERR_MODEL' // a checkpoint folder that cannot be used, and why
  | 'ERR_TOKENIZER'
  | 'ERR_DATA' // a data set that cannot be read; the message names file and line
  | 'ERR_REWARD' // a reward function that threw, timed out or returned something unusable
  | 'ERR_ROLLOUT' // a rollout function (or the hook of syncWeights) that threw, timed out or returned something unusable
  | 'ERR_CONTEXT_LENGTH' // prompt (and completion) do not fit the model's context
  | 'ERR_RANK_LOST' // another process of the run ended, was stopped or cannot be reached; the message names it
  | 'ERR_RANKS_DIFFER' // the processes of a run were started with different options, data, models or versions
  | 'ERR_IO' // disk full, unreadable or unwritable file
  | 'ERR_TRAINING'; // training cannot go on (non-finite loss or gradients)

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? value.slice(0, 57) + '...' : value);
  if (typeof value === 'function') return 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  try {
    const copy = otherCopy(value);
    const name = (value as { constructor?: { name?: unknown } }).constructor?.name;
    const kind = typeof name === 'string' ? name : 'null prototype';
    if (ArrayBuffer.isView(value) || Array.isArray(value)) return `${kind}(${(value as { length?: unknown }).length})`;
    return copy === undefined ? `an object (${kind})` : `a ${kind} of another copy of fused-grpo (${copy})`;
  } catch {
    return 'an object'; // a getter that throws, a revoked Proxy: the message must not fail for it
  }
}

const BRAND = Symbol.for('fused-grpo.error');

/** An error of this package that is neither a TypeError nor a RangeError (those carry a `code` too). */
export class FusedGrpoError extends Error {
  /** What kind of error it is, for programs; the message is for people. */
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FusedGrpoError';
    this.code = code;
  }

  /** Every copy's: with two versions of the package in one process, or modules loaded anew (jest), `instanceof` tells the same. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== FusedGrpoError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === true;
  }
}
Object.defineProperty(FusedGrpoError.prototype, BRAND, { value: true });

function coded<E extends Error>(error: E, code: ErrorCode): E & { code: ErrorCode } {
  return Object.assign(error, { code });
}

/** `Expected <what> for <name> but received <value>`, as a TypeError. */
export function invalidType(name: string, what: string, value: unknown): TypeError & { code: ErrorCode } {
  return coded(new TypeError(`Expected ${what} for ${name} but received ${show(value)}`), 'ERR_INVALID_ARG');
}

/** The same as a RangeError: right type, impossible value. */
export function invalidValue(name: string, what: string, value: unknown): RangeError & { code: ErrorCode } {
  return coded(new RangeError(`Expected ${what} for ${name} but received ${show(value)}`), 'ERR_INVALID_ARG');
}

export function incompatible(message: string): TypeError & { code: ErrorCode } {
  return coded(new TypeError(message), 'ERR_INCOMPATIBLE_OPTIONS');
}

/** A name that is no option, with the reason as the message. */
export function unknownOption(message: string): TypeError & { code: ErrorCode } {
  return coded(new TypeError(message), 'ERR_UNKNOWN_OPTION');
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; ++i) {
    const next = [i];
    for (let j = 1; j <= b.length; ++j) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** Whether the value is a Proxy that was revoked: touching it throws an error without a code. */
export function isRevoked(value: unknown): boolean {
  try {
    Array.isArray(value);
    return false;
  } catch {
    return true; // the only case in which isArray throws
  }
}

/** The known name nearest to `name`, if any is near enough to be a likely slip. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const plain = (s: string) => s.replace(/[-_]/g, '').toLowerCase();
  const ranked = known.map((k) => [editDistance(plain(name), plain(k)), k] as const).sort((x, y) => x[0] - y[0]);
  const best = ranked[0];
  return best && best[0] <= Math.max(2, Math.floor(name.length / 3)) ? best[1] : undefined;
}

/** Throws for the first key of `options` that is not known, naming the nearest known one. `where` is e.g. 'grpoLoss config'. */
export function rejectUnknown(where: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || isRevoked(options)) throw invalidType(where, 'an object', options);
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    throw unknownOption(`Unknown option '${key}' of ${where}${near ? `; did you mean '${near}'?` : ''}`);
  }
}
