// Calling what may be slow, flaky or hung: limits, time-outs and retries of user code. No timer or listener outlives its call.
import { basename } from 'node:path';
import { FusedGrpoError, type ErrorCode } from '../errors.js';

export interface CallOptions {
  /** Seconds until a call that has not settled has failed. */
  timeout: number;
  /** Further attempts after a rejection or a time-out. Default 0. */
  retries?: number;
  /** Seconds before the first retry; doubled with each further one, up to a minute. Default 1. */
  retryDelay?: number;
  /** The option that set the timeout, for the message. */
  timeoutName?: string;
  /** Of the error, when it fails. Default 'ERR_REWARD'. */
  code?: ErrorCode;
  signal?: AbortSignal;
}

/** A call that threw or timed out, after all its attempts: what a caller may pass over. Other errors are mistakes. */
export class CallFailed extends FusedGrpoError {
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

const MAX_DELAY = 60_000;
const MAX_TIMER = 2 ** 31 - 1;

class TimedOut extends Error {}

/** One attempt, with a signal of its own that is aborted when the attempt is given up. */
function attempt<T>(call: (signal: AbortSignal) => T | Promise<T>, { timeout, timeoutName, signal }: CallOptions): Promise<T> {
  signal?.throwIfAborted();
  const own = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const giveUp = (error: unknown) => {
      finish();
      own.abort(error);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what the user threw, or gave to abort()
      reject(error);
    };
    const timer = setTimeout(
      () => giveUp(new TimedOut(`has not settled within ${timeout} s${timeoutName ? ` (${timeoutName})` : ''}`)),
      Math.min(timeout * 1000, MAX_TIMER),
    );
    const onAbort = () => giveUp(signal!.reason);
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    new Promise<T>((settle) => settle(call(own.signal))).then((value) => {
      finish();
      resolve(value);
    }, giveUp);
  });
}

/** Waits, or rejects with the signal's reason. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- what the user gave to abort()
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** The first line of the user's own code in a stack: " (reward.mjs:12:5)". */
function placeOf(error: unknown): string {
  const frames =
    error instanceof Error
      ? String(error.stack ?? '')
          .split('\n')
          .slice(1)
      : [];
  const place = /\(?((?:file:\/\/)?\/[^()\s]+):(\d+):(\d+)\)?$/.exec(frames.find((f) => /\//.test(f) && !f.includes('node:')) ?? '');
  return place ? ` (${basename(place[1]!)}:${place[2]}:${place[3]})` : '';
}

/** Anything can be thrown, also what cannot be made a text of. */
function thrown(error: unknown): string {
  try {
    return `threw: ${error instanceof Error ? error.message : String(error)}${placeOf(error)}`;
  } catch {
    return 'threw an object that has no text';
  }
}

function explain(who: string, error: unknown, attempts: number, code: ErrorCode = 'ERR_REWARD'): CallFailed {
  const what = error instanceof TimedOut ? error.message : thrown(error);
  const cause = error instanceof TimedOut ? undefined : { cause: error };
  return new CallFailed(code, attempts === 1 ? `${who} ${what}` : `${who} failed ${attempts} times; the last time it ${what}`, cause);
}

/**
 * Calls until it succeeds, at most 1 + retries times. Throws CallFailed with the last error and the count, the signal's reason when that is
 * aborted, and errors of this package (a missing column, a disposed model) at once: no retry mends those.
 */
export async function callWithRetries<T>(who: string, call: (signal: AbortSignal) => T | Promise<T>, options: CallOptions): Promise<T> {
  const { retries = 0, retryDelay = 1, signal } = options;
  for (let made = 1; ; ++made) {
    try {
      return await attempt(call, options);
    } catch (error) {
      if (signal?.aborted || (error instanceof FusedGrpoError && !(error instanceof CallFailed))) throw error;
      if (made > retries) throw explain(who, error, made, options.code);
    }
    await pause(Math.min(retryDelay * 1000 * 2 ** (made - 1), MAX_DELAY), signal);
  }
}

/**
 * The results of `work` on each item, in order, with at most `limit` under way. The first failure aborts the signal that the others were
 * given and starts no more of them.
 */
export async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal, index: number) => Promise<R>,
): Promise<R[]> {
  signal?.throwIfAborted();
  const group = new AbortController();
  const onAbort = () => group.abort(signal!.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      group.signal.throwIfAborted();
      const i = next++;
      results[i] = await work(items[i]!, group.signal, i);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  } catch (error) {
    group.abort(error);
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
  return results;
}
