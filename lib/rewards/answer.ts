// Reference answers, and whether a completion gives them.
import {
  firstFormula,
  firstNumber,
  lastAnnounced,
  lastBoxed,
  lastFormula,
  lastHashes,
  lastNumber,
  lastTagged,
  undress,
} from './extract.js';
import { sameAnswer } from './math/compare.js';
import { exact } from './math/evaluate.js';
import { MAX_CHARS, type Answer } from './math/node.js';
import { parseAnswer } from './math/parser.js';

/** A reference, read once for all completions of its group. */
export type Reference =
  { kind: 'choice'; letter: string } | { kind: 'math'; text: string; answer: Answer; number: boolean } | { kind: 'text'; text: string };

const WRAPPED = /^\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}$/;

/** The content of \text{...} and its like, when that is all. */
const unwrap = (text: string): string => WRAPPED.exec(text)?.[1]?.trim() ?? text;

/** Words as they are compared when they are no mathematics: without case, quotes, dashes' kinds and final stop. */
function plain(text: string): string {
  return unwrap(undress(text))
    .normalize('NFKC')
    .toLowerCase()
    .replace(/["'“”‘’]/g, '')
    .replace(/[‐-―]/g, '-')
    .split(/\s+/)
    .join(' ')
    .trim();
}

/** The letter of a multiple choice: B, (B), B), B. and what follows it. */
function choiceOf(text: string): string | undefined {
  const bare = unwrap(undress(text));
  return /^[([{*\s]{0,4}([A-Za-z])(?:$|[)\]}*.:,\s]{1,4}$)/.exec(bare)?.[1]?.toUpperCase() ?? labelled(bare);
}

/** "(B) 12", "B) 12", "B: 12", "\text{(B) } 12": a letter that is marked as a label. */
function labelled(bare: string): string | undefined {
  return /^(?:\\text(?:bf)?\s*\{)?[*\s]{0,3}(?:\(([A-Z])\)|([A-Z])[).:])/.exec(bare)?.slice(1).find(Boolean);
}

/** Whether a parsed answer is words in disguise ("No", "abc"): letters alone, two or more. */
const wordLike = (text: string): boolean => /^\p{L}[\p{L}\s'-]+$/u.test(text);

/**
 * Reads a reference answer: the last \boxed{} of a worked solution, else what follows ####, else the whole. undefined: there is nothing to
 * compare with (empty, no text, or mathematics that cannot be read).
 */
export function readReference(raw: unknown): Reference | undefined {
  if (typeof raw !== 'string' && typeof raw !== 'number' && typeof raw !== 'bigint' && typeof raw !== 'boolean') return undefined;
  const given = String(raw).trim();
  const text = undress(lastBoxed(given) ?? lastHashes(given) ?? lastTagged(given) ?? given);
  if (text === '' || text.length > MAX_CHARS) return undefined;
  const bare = unwrap(text);
  if (/^\(?[A-J]\)?$/.test(bare)) return { kind: 'choice', letter: bare.replace(/[()]/g, '') };
  const answer = wordLike(bare) ? undefined : parseAnswer(text);
  if (answer) return { kind: 'math', text, answer, number: exact(answer.node) !== undefined };
  if (/[\\^_{}]/.test(bare) || !/[\p{L}\p{N}]/u.test(bare)) return undefined;
  return { kind: 'text', text: plain(bare) };
}

/** Words in a text other than commands, "and" and "or": that it could be read as mathematics ("it is 5") then says nothing. */
const hasWords = (text: string): boolean => /(?<![\\A-Za-z])(?!(?:and|or)(?![A-Za-z]))[A-Za-z]{2}/.test(text);
const isFormula = (text: string): boolean => !hasWords(text) && parseAnswer(undress(text)) !== undefined;

/** Whether a text that is an answer and nothing else gives the reference. */
function matches(reference: Reference, text: string): boolean {
  switch (reference.kind) {
    case 'choice':
      return choiceOf(text) === reference.letter;
    case 'text':
      return plain(text) === reference.text;
    case 'math': {
      const bare = undress(text);
      if (bare === reference.text) return true;
      const answer = parseAnswer(bare);
      return answer !== undefined && sameAnswer(reference.answer, answer);
    }
  }
}

/** "The answer is 5 because ...": the first sentence, where that can be read as it stands; else the first formula or number in it. */
function matchesAnnounced(reference: Reference, text: string): boolean {
  const sentence = text.split(/[.!?](?:\s|$)/, 1)[0]!;
  if (reference.kind === 'choice')
    return (choiceOf(sentence) ?? /^\(?([A-Z])\)?(?![A-Za-z'])/.exec(undress(sentence))?.[1]) === reference.letter;
  if (matches(reference, sentence)) return true;
  if (reference.kind === 'text' || isFormula(sentence)) return false;
  const first = firstFormula(sentence) ?? (reference.number ? firstNumber(sentence) : undefined);
  return first !== undefined && matches(reference, first);
}

/** The value that ends a text: its last formula, or, for a reference that is a number, its last number where that comes later. */
function lastValue(text: string, reference: Reference): string | undefined {
  const formula = lastFormula(text);
  const usable = formula && parseAnswer(formula.text) ? formula : undefined;
  const number = reference.kind === 'math' && reference.number ? lastNumber(text) : undefined;
  if (usable && number) return number.end > usable.end ? number.text : usable.text;
  return (usable ?? number)?.text;
}

/** Without any mark: the last line, the whole, or the last value. */
function matchesUnmarked(reference: Reference, text: string): boolean {
  const trimmed = text.trim();
  const line = trimmed.slice(trimmed.lastIndexOf('\n') + 1).slice(-MAX_CHARS);
  if (reference.kind === 'choice') return (choiceOf(line) ?? labelled(line.trim())) === reference.letter;
  if (matches(reference, line)) return true;
  if (reference.kind === 'text' || isFormula(line)) return false;
  const last = lastValue(trimmed, reference);
  return last !== undefined && matches(reference, last);
}

/**
 * Whether a completion gives the reference. Looked at is the first of these that there is, and nothing else: the last \boxed{}, the last
 * <answer> tag, what follows ####, what follows the last "answer is" or "answer:"; then the last line, formula or number. `marked`: only
 * the first three count.
 */
export function givesAnswer(reference: Reference, completion: string, marked = false): boolean {
  const explicit = lastBoxed(completion) ?? lastTagged(completion) ?? lastHashes(completion);
  if (explicit !== undefined) return matches(reference, explicit);
  if (marked) return false;
  const announced = lastAnnounced(completion);
  return announced !== undefined ? matchesAnnounced(reference, announced) : matchesUnmarked(reference, completion);
}
