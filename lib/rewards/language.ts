// DeepSeek-R1's language consistency reward: the share of words that are of the language wanted, told by their script.
import { invalidType, invalidValue, rejectUnknown } from '../errors.js';
import type { AnyRewardFn, AnyRewardInput } from '../trainer/reward-types.js';
import { named } from './accuracy.js';
import { textOf, texts } from './text.js';

const SCRIPTS: Record<string, string[]> = {
  zh: ['Han'], ja: ['Han', 'Hiragana', 'Katakana'], ko: ['Hangul'], ru: ['Cyrillic'], uk: ['Cyrillic'], bg: ['Cyrillic'], sr: ['Cyrillic', 'Latin'],
  mk: ['Cyrillic'], be: ['Cyrillic'], kk: ['Cyrillic'], mn: ['Cyrillic'], ar: ['Arabic'], fa: ['Arabic'], ur: ['Arabic'], he: ['Hebrew'], yi: ['Hebrew'],
  el: ['Greek'], hi: ['Devanagari'], mr: ['Devanagari'], ne: ['Devanagari'], bn: ['Bengali'], pa: ['Gurmukhi'], gu: ['Gujarati'], ta: ['Tamil'],
  te: ['Telugu'], kn: ['Kannada'], ml: ['Malayalam'], si: ['Sinhala'], th: ['Thai'], lo: ['Lao'], my: ['Myanmar'], km: ['Khmer'], ka: ['Georgian'],
  hy: ['Armenian'], am: ['Ethiopic'], bo: ['Tibetan'],
}; // prettier-ignore
const LATIN =
  'en de fr es it pt nl sv da no nb nn fi is pl cs sk sl hr bs ro hu tr az et lv lt sq ca eu gl ga cy mt af id ms vi tl sw zu xh so ha yo ig la eo'.split(
    ' ',
  );
for (const language of LATIN) SCRIPTS[language] = ['Latin'];

const ALL = [...new Set(Object.values(SCRIPTS).flat())];
const pattern = (scripts: string[], flags = 'u') => new RegExp(`^(?:${scripts.map((s) => `\\p{Script=${s}}`).join('|')})$`, flags);
const PATTERNS = new Map(ALL.map((script) => [script, pattern([script])]));

/** Of getLanguageConsistencyReward. */
export interface LanguageConsistencyOptions {
  /** The language wanted, as an ISO 639-1 code ('en', 'zh', ...), or 'prompt': the script that most letters of the prompt have. Default 'en'. */
  language?: string;
  /** 'reasoning': what stands in <think>...</think> (all, where there is none); 'all': the whole completion. Default 'reasoning'. */
  part?: 'reasoning' | 'all';
}

/** Languages that getLanguageConsistencyReward knows. */
export const consistencyLanguages: readonly string[] = Object.keys(SCRIPTS).sort();

function reasoningOf(text: string): string {
  const end = text.lastIndexOf('</think>');
  const begin = text.indexOf('<think>');
  if (end < 0) return begin < 0 ? text : text.slice(begin + 7);
  return begin < 0 || begin > end ? text.slice(0, end) : text.slice(begin + 7, end);
}

/** Formulas, commands, tags and code are of no language. Each pattern ends where it must: a search that fails does not begin again inside. */
function prose(text: string): string {
  return text
    .replace(/\$\$?[^$\n]{1,1000}\$\$?/g, ' ')
    .replace(/\\[A-Za-z]{1,30}/g, ' ')
    .replace(/`[^`\n]{1,1000}`/g, ' ')
    .replace(/<\/?[a-z]{1,20}>/g, ' ');
}

/** The script of a letter, among those that a language here is written in. */
function scriptOf(letter: string): string | undefined {
  for (const [script, is] of PATTERNS) if (is.test(letter)) return script;
  return undefined;
}

const SPACELESS = new Set(['Han', 'Hiragana', 'Katakana', 'Thai', 'Lao', 'Khmer', 'Myanmar', 'Tibetan']);

/**
 * Words by script. Scripts without spaces have no words to count without a dictionary: there two letters count as one, about a word's length.
 * Single letters of other alphabets (x, n, alpha) are variables as often as words: only `own` ones count.
 */
function wordsByScript(text: string, own: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (script: string, n: number) => counts.set(script, (counts.get(script) ?? 0) + n);
  const cache = new Map<string, string>();
  for (const [run] of prose(text).matchAll(/\p{L}[\p{L}\p{M}]*/gu)) {
    const letters = new Map<string, number>();
    for (const letter of run) {
      let script = cache.get(letter);
      if (script === undefined) cache.set(letter, (script = scriptOf(letter) ?? (/\p{L}/u.test(letter) ? 'other' : '')));
      if (script !== '') letters.set(script, (letters.get(script) ?? 0) + 1);
    }
    for (const [script, n] of letters) {
      if (SPACELESS.has(script)) add(script, n / 2);
      else if (n > 1 || own.includes(script)) add(script, 1);
    }
  }
  return counts;
}

const largest = (counts: Map<string, number>): string | undefined => [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];

/** The scripts of the language that a prompt is written in. */
function scriptsOfPrompt(prompt: AnyRewardInput['prompts'][number]): string[] {
  const counts = wordsByScript(textOf(prompt), []);
  if (counts.has('Hiragana') || counts.has('Katakana')) return SCRIPTS.ja!;
  return [largest(counts) ?? 'Latin'];
}

function share(text: string, scripts: string[]): number | null {
  const counts = wordsByScript(text, scripts);
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  return total === 0 ? null : scripts.reduce((n, script) => n + (counts.get(script) ?? 0), 0) / total;
}

/**
 * The share of a completion's words (0 to 1) that are written in the script of the language wanted: DeepSeek-R1's reward against mixed
 * languages in the reasoning (arXiv:2501.12948, section 2.3.2), to be added to the reward for the answer. It tells English from Chinese,
 * not English from French: both are Latin. Formulas, LaTeX commands, code and numbers do not count; null where no word is left.
 */
export function getLanguageConsistencyReward(options: LanguageConsistencyOptions = {}): AnyRewardFn {
  rejectUnknown('getLanguageConsistencyReward options', options, ['language', 'part']);
  const { language = 'en', part = 'reasoning' } = options;
  if (typeof language !== 'string') throw invalidType('language', "a language code or 'prompt'", language);
  if (language !== 'prompt' && !Object.hasOwn(SCRIPTS, language))
    throw invalidValue('language', `'prompt' or one of ${consistencyLanguages.join(', ')}`, language);
  if (part !== 'reasoning' && part !== 'all') throw invalidValue('part', "'reasoning' or 'all'", part);
  return named('languageConsistencyReward', (input) =>
    texts(input).map((text, i) => {
      const scripts = SCRIPTS[language] ?? scriptsOfPrompt(input.prompts[i]!);
      return share(part === 'all' ? text : reasoningOf(text), scripts);
    }),
  );
}

/** getLanguageConsistencyReward for English reasoning. */
export const languageConsistencyReward: AnyRewardFn = getLanguageConsistencyReward();
