// Rewards for the shape of a completion: TRL's think_format_reward, and DeepSeek-R1-Zero's template with <answer>.
import { invalidType, rejectUnknown } from '../errors.js';
import type { AnyRewardFn, AnyRewardInput } from '../trainer/reward-types.js';
import { named } from './accuracy.js';
import { textOf, texts } from './text.js';

const [OPEN, CLOSE] = ['<think>', '</think>'];

/** Of getThinkFormatReward. */
export interface ThinkFormatOptions {
  /**
   * The prompt has opened the reasoning already, as chat templates of reasoning models do: completions begin inside it. Default: where a
   * text prompt ends with <think>; of a chat prompt only you know.
   */
  openedByPrompt?: boolean;
}

const count = (text: string, part: string): number => text.split(part).length - 1;

/** The text of each completion with the <think> that its prompt opened. */
function whole(input: AnyRewardInput, opened: boolean | undefined): string[] {
  return texts(input).map((text, i) => {
    const prompt = input.prompts[i]!;
    const isOpen = opened ?? (typeof prompt === 'string' && textOf(prompt).trimEnd().endsWith(OPEN));
    return isOpen ? OPEN + text : text;
  });
}

/** The completion behind its reasoning; undefined unless it begins with the only <think> and has one </think>. */
function behindThinking(text: string): string | undefined {
  if (!text.startsWith(OPEN) || count(text, OPEN) !== 1 || count(text, CLOSE) !== 1) return undefined;
  return text.slice(text.indexOf(CLOSE) + CLOSE.length);
}

function check(who: string, options: ThinkFormatOptions): void {
  rejectUnknown(who, options, ['openedByPrompt']);
  if (options.openedByPrompt !== undefined && typeof options.openedByPrompt !== 'boolean')
    throw invalidType('openedByPrompt', 'true or false', options.openedByPrompt);
}

/** Makes a thinkFormatReward with options. */
export function getThinkFormatReward(options: ThinkFormatOptions = {}): AnyRewardFn {
  check('getThinkFormatReward options', options);
  return named('thinkFormatReward', (input) =>
    whole(input, options.openedByPrompt).map((text) => (behindThinking(text) === undefined ? 0 : 1)),
  );
}

/** 1 for a completion that begins with <think> and has exactly one <think> and one </think>; else 0. */
export const thinkFormatReward: AnyRewardFn = getThinkFormatReward();

/** Makes a thinkAnswerFormatReward with options. */
export function getThinkAnswerFormatReward(options: ThinkFormatOptions = {}): AnyRewardFn {
  check('getThinkAnswerFormatReward options', options);
  return named('thinkAnswerFormatReward', (input) =>
    whole(input, options.openedByPrompt).map((text) => {
      const rest = behindThinking(text)?.trim();
      const one = rest !== undefined && count(rest, '<answer>') === 1 && count(rest, '</answer>') === 1;
      return one && rest.startsWith('<answer>') && rest.endsWith('</answer>') ? 1 : 0;
    }),
  );
}

/** 1 for <think>...</think> <answer>...</answer> and nothing else (the template of DeepSeek-R1-Zero, arXiv:2501.12948); else 0. */
export const thinkAnswerFormatReward: AnyRewardFn = getThinkAnswerFormatReward();
