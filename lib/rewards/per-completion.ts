// From a function of one completion to a reward function.
import { invalidType, rejectUnknown } from '../errors.js';
import { number } from '../ops/check.js';
import { callWithRetries, mapLimited } from '../trainer/calls.js';
import type {
  AnyRewardInput,
  AnyRow,
  ColumnsOf,
  PromptOf,
  RewardInput,
  RewardValue,
  TextRow,
  TrainerState,
} from '../trainer/reward-types.js';
import { named } from './accuracy.js';

/** One completion without the columns of its row. */
export interface OneCompletionOf<Text = string> {
  /** As in the data set. */
  prompt: Text;
  /** Text, or for conversations a list of one message. */
  completion: Text;
  /** Token ids, the end token included. */
  completionTokens: Int32Array;
  /** Where the run is. */
  trainerState: TrainerState;
  /** Aborted when the call is given up. */
  signal: AbortSignal;
}

/** One completion as perCompletion's function sees it, with the columns of its row by name. `Row`: see RewardInput. */
export type OneCompletion<Row extends object = TextRow> = OneCompletionOf<PromptOf<Row>> & ColumnsOf<Row>;

/** A number, null for "nothing to say", or the rewards of the completion's steps. */
export type OneCompletionFn<Row extends object = TextRow> = (one: OneCompletion<Row>) => RewardValue | Promise<RewardValue>;

/** What perCompletion makes. */
export type PerCompletionFn<Row extends object = TextRow> = (input: RewardInput<Row>) => Promise<RewardValue[]>;

/** Of perCompletion. */
export interface PerCompletionOptions {
  /** Completions under way at once. Default 8. */
  concurrency?: number;
  /** Name in the metrics; default the function's own. */
  name?: string;
  /** Further attempts for a completion whose call was rejected or timed out. Default 0. */
  retries?: number;
  /** Seconds before the first retry, doubled with each further one. Default 1. */
  retryDelay?: number;
  /** Seconds for one call. Default: no limit but the trainer's rewardTimeout for all of them. */
  timeout?: number;
}

const OWN = new Set(['prompts', 'completions', 'completionTokens', 'trainerState', 'signal']);

function rowOf(input: AnyRewardInput, i: number, signal: AbortSignal): OneCompletion<AnyRow> {
  const columns = Object.entries(input).filter(([name, values]) => !OWN.has(name) && Array.isArray(values));
  return {
    ...Object.fromEntries(columns.map(([name, values]) => [name, (values as unknown[])[i]])),
    prompt: input.prompts[i]!,
    completion: input.completions[i]!,
    completionTokens: input.completionTokens[i]!,
    trainerState: input.trainerState,
    signal,
  };
}

/**
 * Makes a reward function of a function of one completion, sync or async (a judge over the network, a sandbox), with at most `concurrency`
 * calls under way. The first that fails, after its retries, fails the whole call and aborts the signals of the others; to go on without a
 * completion, catch in the function and return null.
 */
export function perCompletion<Row extends object = TextRow>(
  fn: OneCompletionFn<Row>,
  options: PerCompletionOptions = {},
): PerCompletionFn<Row> {
  if (typeof fn !== 'function') throw invalidType('perCompletion', 'a function of one completion', fn);
  rejectUnknown('perCompletion options', options, ['concurrency', 'name', 'retries', 'retryDelay', 'timeout']);
  const concurrency = number('concurrency', options.concurrency ?? 8, { integer: true, min: 1 });
  const retries = number('retries', options.retries ?? 0, { integer: true, min: 0 });
  const retryDelay = number('retryDelay', options.retryDelay ?? 1, { min: 0 });
  const timeout = options.timeout === undefined ? Infinity : number('timeout', options.timeout, { above: 0 });
  const name = options.name ?? (fn.name || 'perCompletion');
  if (typeof name !== 'string') throw invalidType('name', 'a name', name);
  const call = fn as unknown as OneCompletionFn<AnyRow>; // what it is called with is the trainer's affair
  const reward = (input: AnyRewardInput) =>
    mapLimited(input.prompts, concurrency, input.signal, (_prompt, signal, i) =>
      retries === 0 && timeout === Infinity
        ? Promise.resolve(call(rowOf(input, i, signal)))
        : callWithRetries(`Completion ${i}`, (own) => call(rowOf(input, i, own)), { retries, retryDelay, timeout, signal }),
    );
  return named(name, reward);
}
