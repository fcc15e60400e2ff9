// Native calls as promises that an AbortSignal can stop, and native errors as this package's.
import { FusedGrpoError, invalidType, type ErrorCode } from '../errors.js';
import { ourError, ours } from '../realm.js';
import type { NativeCall } from './addon.js';

const CODES = new Set<string>([
  ...['ERR_INVALID_ARG', 'ERR_NON_FINITE', 'ERR_DISPOSED', 'ERR_ABORTED', 'ERR_MODEL'],
  ...['ERR_TOKENIZER', 'ERR_CONTEXT_LENGTH', 'ERR_IO', 'ERR_TRAINING'],
  ...['ERR_NO_CUDA', 'ERR_CUDA', 'ERR_OUT_OF_MEMORY', 'ERR_RANK_LOST'],
]);

/** A native error with a code of ours becomes a FusedGrpoError; TypeErrors, RangeErrors and anything else stay what they are. */
export function fromNative(thrown: unknown): unknown {
  const error = ourError(thrown);
  if (!(error instanceof Error) || error instanceof TypeError || error instanceof RangeError) return error;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && CODES.has(code) ? new FusedGrpoError(code as ErrorCode, error.message, { cause: error }) : error;
}

/** Checks an AbortSignal option and throws its reason when it is already aborted. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  if (typeof signal !== 'object' || signal === null || typeof signal.addEventListener !== 'function')
    throw invalidType('signal', 'an AbortSignal', signal);
  signal.throwIfAborted();
}

/**
 * Starts a native call and waits for it. When `signal` aborts, the promise rejects with the signal's reason, but only once native code has
 * let go of the model and its buffers.
 */
export async function settle<T>(start: () => NativeCall<T>, signal?: AbortSignal): Promise<T> {
  checkSignal(signal);
  let abort: (() => void) | undefined;
  try {
    const call = start();
    abort = () => call.abort();
    signal?.addEventListener('abort', abort, { once: true });
    return ours(await call.promise);
  } catch (error) {
    if (signal?.aborted && (error as { code?: unknown }).code === 'ERR_ABORTED') throw signal.reason;
    throw fromNative(error);
  } finally {
    if (abort) signal?.removeEventListener('abort', abort);
  }
}
