// Rewards for right answers: TRL's accuracy_reward, reasoning_accuracy_reward and get_cosine_scaled_reward.
import { invalidType, rejectUnknown } from '../errors.js';
import { number } from '../ops/check.js';
import type { AnyRewardFn, AnyRewardInput } from '../trainer/reward-types.js';
import { givesAnswer, readReference, type Reference } from './answer.js';
import { column, texts } from './text.js';

/** Of getAccuracyReward. */
export interface AccuracyOptions {
  /** Column of the reference answers; default: `solution`, else `answer`. */
  column?: string;
  /** Only \boxed{}, <answer> tags and #### count as an answer: no searching for the last number. Default false. */
  requireMarked?: boolean;
}

const COLUMNS = ['solution', 'answer'];

function checkAccuracyOptions(who: string, options: AccuracyOptions, more: string[] = []): void {
  rejectUnknown(who, options, ['column', 'requireMarked', ...more]);
  if (options.column !== undefined && typeof options.column !== 'string') throw invalidType('column', 'a column name', options.column);
  if (options.requireMarked !== undefined && typeof options.requireMarked !== 'boolean')
    throw invalidType('requireMarked', 'true or false', options.requireMarked);
}

/** The same function under a name for the metrics. */
export function named<Fn extends AnyRewardFn>(name: string, fn: Fn): Fn {
  return Object.defineProperty(fn, 'name', { value: name });
}

/** (B) whether each text gives its reference; null where the reference cannot be read. */
function judge(input: AnyRewardInput, answers: string[], options: AccuracyOptions, who: string): (boolean | null)[] {
  const references = column(input, options.column === undefined ? COLUMNS : [options.column], who);
  const read = new Map<unknown, Reference | undefined>(); // the completions of a group share theirs
  return answers.map((text, i) => {
    const raw = references[i];
    if (!read.has(raw)) read.set(raw, readReference(raw));
    const reference = read.get(raw);
    return reference ? givesAnswer(reference, text, options.requireMarked) : null;
  });
}

const points = (right: boolean | null): number | null => (right === null ? null : right ? 1 : 0);

/**
 * Makes an accuracyReward with options. The answer of a completion is its last \boxed{}, else its last <answer> tag, what follows ####, what
 * follows "the answer is", its last line, formula or number; it is compared as mathematics (fractions, decimals, percent, thousands
 * separators, units, roots, functions of variables, sets, tuples, intervals, matrices, equations), as the letter of a multiple choice, or
 * else as text without regard to case. docs/recipes.md says what counts as equal.
 */
export function getAccuracyReward(options: AccuracyOptions = {}): AnyRewardFn {
  checkAccuracyOptions('getAccuracyReward options', options);
  return named('accuracyReward', (input) => judge(input, texts(input), options, 'accuracyReward').map(points));
}

/**
 * 1 for a right answer, 0 for a wrong one, null where the reference (column `solution`, else `answer`) cannot be read. TRL's
 * accuracy_reward, without Python: see getAccuracyReward for what is compared and how.
 */
export const accuracyReward: AnyRewardFn = getAccuracyReward();

/** Of getReasoningAccuracyReward. */
export interface ReasoningAccuracyOptions extends AccuracyOptions {
  /** What ends the reasoning; the first of them that occurs counts, at its last place. Default ['</think>']. */
  reasoningDelimiters?: string[];
}

function afterReasoning(text: string, delimiters: string[]): string | undefined {
  const delimiter = delimiters.find((d) => text.includes(d));
  return delimiter === undefined ? undefined : text.slice(text.lastIndexOf(delimiter) + delimiter.length);
}

/** Makes a reasoningAccuracyReward with options. */
export function getReasoningAccuracyReward(options: ReasoningAccuracyOptions = {}): AnyRewardFn {
  checkAccuracyOptions('getReasoningAccuracyReward options', options, ['reasoningDelimiters']);
  const { reasoningDelimiters: delimiters = ['</think>'] } = options;
  if (!Array.isArray(delimiters) || delimiters.length === 0 || !delimiters.every((d) => typeof d === 'string' && d !== ''))
    throw invalidType('reasoningDelimiters', 'an array of texts', delimiters);
  return named('reasoningAccuracyReward', (input) => {
    const answers = texts(input).map((text) => afterReasoning(text, delimiters));
    const right = judge(
      input,
      answers.map((text) => text ?? ''),
      options,
      'reasoningAccuracyReward',
    );
    return right.map((value, i) => (answers[i] === undefined ? 0 : points(value)));
  });
}

/** accuracyReward of what follows </think>: an answer in the reasoning does not count, and reasoning that does not end gets 0. */
export const reasoningAccuracyReward: AnyRewardFn = getReasoningAccuracyReward();

/** Of getCosineScaledReward. */
export interface CosineScaledOptions extends AccuracyOptions {
  /** Tokens: where the schedule ends; longer completions stay at its end. */
  maxLen: number;
  /** Reward of the shortest wrong completion. Default -1. */
  minValueWrong?: number;
  /** Reward of the longest wrong completion. Default -0.5. */
  maxValueWrong?: number;
  /** Reward of the longest right completion. Default 0.5. */
  minValueCorrect?: number;
  /** Reward of the shortest right completion. Default 1. */
  maxValueCorrect?: number;
}

const COSINE_DEFAULTS = { minValueWrong: -1, maxValueWrong: -0.5, minValueCorrect: 0.5, maxValueCorrect: 1 };

/**
 * A reward for right answers that falls with length, and a punishment of wrong ones that does too: with t = min(tokens / maxLen, 1),
 * long + (short - long) (1 + cos(pi t)) / 2, between the rewards of the shortest and the longest completion (arXiv:2502.03373,
 * appendix C.1). null where the reference cannot be read.
 */
export function getCosineScaledReward(options: CosineScaledOptions): AnyRewardFn {
  checkAccuracyOptions('getCosineScaledReward options', options, ['maxLen', ...Object.keys(COSINE_DEFAULTS)]);
  const maxLen = number('maxLen', options.maxLen, { above: 0 });
  const v = { ...COSINE_DEFAULTS };
  for (const name of Object.keys(v) as (keyof typeof v)[]) v[name] = number(name, options[name] ?? v[name]);
  return named('cosineScaledReward', (input) =>
    judge(input, texts(input), options, 'cosineScaledReward').map((right, i) => {
      if (right === null) return null;
      const [short, long] = right ? [v.maxValueCorrect, v.minValueCorrect] : [v.minValueWrong, v.maxValueWrong];
      const t = Math.min(input.completionTokens[i]!.length / maxLen, 1);
      return long + (short - long) * 0.5 * (1 + Math.cos(Math.PI * t));
    }),
  );
}
