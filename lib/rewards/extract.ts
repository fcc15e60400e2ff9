// Where in a text its answer stands. Completions are hostile input: every search is a single pass, and nothing here backtracks.
import { MAX_CHARS } from './math/node.js';

/** The content of the last \boxed{...} (or \fbox{...}) that is closed; of nested ones, the outer. */
export function lastBoxed(text: string): string | undefined {
  const open: (number | undefined)[] = []; // per brace that is open: where a box's content begins, undefined for others
  let found: string | undefined;
  for (let i = 0; i < text.length; ++i) {
    const c = text[i];
    if (c === '\\') {
      const command = ['boxed', 'fbox'].find((name) => text.startsWith(name, i + 1));
      if (!command) {
        ++i; // an escaped brace is no brace
        continue;
      }
      i += command.length;
      let next = i + 1;
      while (text[next] === ' ') ++next;
      if (text[next] !== '{') continue;
      open.push(next + 1);
      i = next;
    } else if (c === '{') open.push(undefined);
    else if (c === '}') {
      const begin = open.pop();
      if (begin !== undefined) found = text.slice(begin, i);
    }
  }
  return found;
}

/** What stands in the last <answer>...</answer>. */
export function lastTagged(text: string): string | undefined {
  const end = text.lastIndexOf('</answer>');
  const begin = end < 0 ? -1 : text.lastIndexOf('<answer>', end);
  return begin < 0 ? undefined : text.slice(begin + '<answer>'.length, end).trim();
}

/** GSM8K's way: what follows the last ####, to the end of the line. */
export function lastHashes(text: string): string | undefined {
  const at = text.lastIndexOf('####');
  return at < 0
    ? undefined
    : text
        .slice(at + 4)
        .split('\n', 1)[0]!
        .trim();
}

/** What follows the last "answer is", "answer:" or "answer =", to the end of the line. */
export function lastAnnounced(text: string): string | undefined {
  const places = Array.from(text.matchAll(/answers?/gi), (m) => m.index + m[0].length);
  for (const at of places.slice(-100).reverse()) {
    const line = text.slice(at, at + MAX_CHARS).split('\n', 1)[0]!;
    const after = /^[*_\s]{0,4}(?:is|are|:|=)[:*_\s]{0,6}(.*)$/s.exec(line)?.[1]?.trim();
    if (after) return after;
  }
  return undefined;
}

export interface Found {
  text: string;
  /** Where in the text it ends. */
  end: number;
}

const DELIMITERS: [string, string][] = [
  ['$$', '$$'],
  ['\\[', '\\]'],
  ['\\(', '\\)'],
  ['$', '$'],
];

/** The last formula between delimiters. */
export function lastFormula(text: string): Found | undefined {
  let last: Found | undefined;
  for (const [open, close] of DELIMITERS) {
    const end = text.lastIndexOf(close);
    const begin = end <= 0 ? -1 : text.lastIndexOf(open, end - open.length);
    const inside = begin < 0 ? '' : text.slice(begin + open.length, end).trim();
    if (inside === '' || inside === '$' || inside.length > MAX_CHARS || end + close.length <= (last?.end ?? 0)) continue;
    last = { text: inside, end: end + close.length };
  }
  return last;
}

/** The first formula between delimiters. */
export function firstFormula(text: string): string | undefined {
  let first: { text: string; begin: number } | undefined;
  for (const [open, close] of DELIMITERS) {
    const begin = text.indexOf(open);
    const end = begin < 0 ? -1 : text.indexOf(close, begin + open.length);
    const inside = end < 0 ? '' : text.slice(begin + open.length, end).trim();
    if (inside !== '' && begin < (first?.begin ?? Infinity)) first = { text: inside, begin };
  }
  return first?.text;
}

/** A number of its own, or a fraction of two: the last in the text. */
const NUMBER = /(?<![\p{L}\d)\]])-?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3})?(?:\/\d+)?%?/gu;

export const firstNumber = (text: string): string | undefined => text.replaceAll('−', '-').match(NUMBER)?.[0];

export function lastNumber(text: string): Found | undefined {
  let last: Found | undefined;
  for (const match of text.replaceAll('−', '-').matchAll(NUMBER)) {
    last = { text: match[0], end: match.index + match[0].length };
  }
  return last;
}

/** Takes off what only dresses an answer up: $...$, \(...\), **...**, a full stop at the end. */
export function undress(text: string): string {
  let bare = text.trim();
  if (bare.length > MAX_CHARS) return bare;
  for (let before = ''; before !== bare;) {
    before = bare;
    for (const [open, close] of [...DELIMITERS, ['**', '**'], ['`', '`']] as [string, string][])
      if (bare.length > open.length + close.length && bare.startsWith(open) && bare.endsWith(close))
        bare = bare.slice(open.length, -close.length).trim();
    if (bare.endsWith('.')) bare = bare.slice(0, -1).trim();
  }
  return bare;
}
