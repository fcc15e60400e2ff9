// Tokens of a mathematical answer in LaTeX or plain text. One pass; every regular expression is sticky and cannot backtrack far.
import { isUnitWord } from './units.js';
import { MAX_CHARS } from './node.js';

export type Token =
  | { type: 'number'; text: string; spaced: boolean }
  /** A variable or a constant. */
  | { type: 'symbol'; text: string; spaced: boolean }
  /** An operator, a bracket, or a command with a meaning of its own: + frac { ... */
  | { type: 'op'; text: string; spaced: boolean }
  | { type: 'function'; text: string; spaced: boolean }
  /** Words: of \text{} or in the open. They are units, or nothing. */
  | { type: 'words'; text: string; spaced: boolean };

/** What cannot be read is thrown as this, and never leaves parseAnswer. */
export class Unreadable extends Error {}

const UNICODE: Record<string, string> = {
  '−': '-', '–': '-', '×': '*', '·': '*', '⋅': '*', '∗': '*', '÷': '/', '≤': '<=', '≥': '>=', '≠': '!=', '∪': '\\cup ', '∞': '\\infty ',
  'π': '\\pi ', '√': '\\sqrt ', '±': '\\pm ', '∓': '\\mp ', '∅': '\\emptyset ', '°': '\\degree ', '∈': '\\in ', '½': '\\frac12 ', '¼': '\\frac14 ',
  '¾': '\\frac34 ', '²': '^2', '³': '^3', '⟨': '\\langle ', '⟩': '\\rangle ', 'θ': '\\theta ', 'α': '\\alpha ', 'β': '\\beta ', '\u00a0': ' ',
  '\u202f': ' ', '\u2009': ' ',
}; // prettier-ignore

const FUNCTIONS = new Set('sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp sqrt abs floor ceil'.split(' '));
const GREEK = new Set(
  'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell'.split(
    ' ',
  ),
);
/** Commands that are another way to write an operator or a symbol. */
const SAME: Record<string, string> = {
  cdot: '*', times: '*', ast: '*', div: '/', le: '<=', leq: '<=', leqslant: '<=', ge: '>=', geq: '>=', geqslant: '>=', lt: '<', gt: '>', ne: '!=',
  neq: '!=', approx: '=', equiv: '=', pm: 'pm', mp: 'mp', cup: 'cup', in: 'in', lbrace: '\\{', rbrace: '\\}', langle: '<<', rangle: '>>', lvert: '|',
  rvert: '|', vert: '|', mid: 'mid', lfloor: 'lfloor', rfloor: 'rfloor', lceil: 'lceil', rceil: 'rceil', frac: 'frac', dfrac: 'frac', tfrac: 'frac',
  cfrac: 'frac', binom: 'binom', dbinom: 'binom', tbinom: 'binom', circ: 'degree', degree: 'degree', lbrack: '[', rbrack: ']', colon: ':', boxed: 'group',
  fbox: 'group',
}; // prettier-ignore
/** Commands that only change how something looks; `left` and `right` stand before a bracket. */
const NOTHING = new Set(
  'left right big Big bigg Bigg bigl bigr Bigl Bigr quad qquad displaystyle textstyle limits nolimits hspace , ; : ! space thinspace'.split(
    ' ',
  ),
);
const TEXT = new Set(
  'text textbf textit textrm texttt textsf mbox mathrm operatorname hbox mathbf mathbb mathit mathcal mathsf bm'.split(' '),
);

/** Digits with separators of thousands: 1,234 1{,}234 1\,234. In brackets a bare comma may part items: there it must lead a group with 0. */
const GROUPED = /\d{1,3}(?:(?:,|\{,\}|\\,|\\ |,\\!)\d{3})+(?!\d)/y;
const PLAIN = /\d+/y;
const FRACTION = /\.\d+/y;
const EXPONENT = /[eE][+-]?\d{1,4}(?![A-Za-z\d])/y;

export class Lexer {
  readonly tokens: Token[] = [];
  private at = 0;
  private spaced = false;
  private depth = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text.replace(/[^\0-\x7f]/gu, (c) => UNICODE[c] ?? c);
    if (this.text.length > 2 * MAX_CHARS) throw new Unreadable('too long');
    while (this.at < this.text.length) this.next();
  }

  private push(type: Token['type'], text: string): void {
    this.tokens.push({ type, text, spaced: this.spaced });
    this.spaced = false;
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }

  private next(): void {
    const c = this.text[this.at]!;
    if (/\s|~/.test(c)) {
      this.spaced = true;
      ++this.at;
    } else if (/\d/.test(c) || (c === '.' && /\d/.test(this.text[this.at + 1] ?? ''))) this.number();
    else if (c === '\\') this.command();
    else if (/\p{L}/u.test(c)) this.letters();
    else this.operator(c);
  }

  private number(): void {
    const begin = this.at;
    const whole = this.match(GROUPED) ?? this.match(PLAIN) ?? '';
    const inBrackets = this.depth > 0 && /\d,\d/.test(whole) && !/[^\d]0\d\d/.test(whole);
    if (inBrackets) {
      this.at = begin;
      return this.push('number', this.match(PLAIN)!);
    }
    const digits = whole.replace(/\D/g, '');
    const rest = (this.match(FRACTION) ?? '') + (this.match(EXPONENT) ?? '');
    if (rest === '' && this.text[this.at] === '.') ++this.at; // "5." is 5
    this.push('number', digits + rest);
  }

  private operator(c: string): void {
    const two = this.text.slice(this.at, this.at + 2);
    if (['<=', '>=', '!=', '**'].includes(two)) {
      this.at += 2;
      return this.push('op', two === '**' ? '^' : two);
    }
    ++this.at;
    if ('([{'.includes(c)) ++this.depth;
    if (')]}'.includes(c)) --this.depth;
    if ('$€£¢'.includes(c)) return this.push('words', c);
    if (!"+-*/^_!%()[]{}|<>=,;:&'".includes(c)) throw new Unreadable(`'${c}'`);
    this.push('op', c);
  }

  private command(): void {
    ++this.at;
    const name = this.match(/[A-Za-z]+/y) ?? this.text[this.at++] ?? '';
    if (name === 'left' || name === 'right') this.match(/\s*\./y); // \left. is no bracket
    if (name === '{') ++this.depth;
    if (name === '}') --this.depth;
    if (NOTHING.has(name) || /^\s?$/.test(name)) this.spaced = true;
    else if (TEXT.has(name)) this.words(name);
    else if (name === 'begin' || name === 'end') this.environment(name);
    else if (name in SAME) this.push('op', SAME[name]!);
    else if ('{}%|\\'.includes(name)) this.push('op', name === '%' || name === '|' ? name : '\\' + name);
    else if (name === '$') this.push('words', '$');
    else if (FUNCTIONS.has(name)) this.push('function', name);
    else if (name === 'pi' || name === 'infty' || GREEK.has(name)) this.push('symbol', name);
    else if (name === 'emptyset' || name === 'varnothing') this.push('op', 'emptyset');
    else throw new Unreadable(`\\${name}`);
  }

  private group(): string {
    const found = this.match(/\s*\{([^{}]*)\}/y);
    if (found === undefined) throw new Unreadable('a command without its text');
    return found.trim().slice(1, -1).trim();
  }

  private words(command: string): void {
    const inside = this.group();
    if (inside === '') this.spaced = true;
    else if (FUNCTIONS.has(inside)) this.push('function', inside);
    else if (/^(and|or)$/i.test(inside)) this.push('op', ',');
    else if (/^[A-Za-z]$/.test(inside) && command.startsWith('math')) this.push(command === 'mathrm' ? 'words' : 'symbol', inside);
    else if (/^[\d.,]+$/.test(inside)) for (const token of new Lexer(inside).tokens) this.tokens.push(token);
    else this.push('words', inside);
  }

  private environment(name: string): void {
    const inside = this.group();
    if (!/^[pbvB]?matrix$|^array$/.test(inside)) throw new Unreadable(inside);
    if (name === 'begin' && inside === 'array') this.group();
    this.push('op', name);
  }

  /** sin and pi are what they are, a known unit or a longer word is a word, and the rest are variables side by side. */
  private letters(): void {
    const run = this.match(/\p{L}+/uy)!;
    const previous = this.tokens.at(-1);
    const low = run.toLowerCase();
    if (FUNCTIONS.has(run)) return this.push('function', run);
    if (run === 'pi') return this.push('symbol', 'pi');
    if (low === 'inf' || low === 'infinity') return this.push('symbol', 'infty');
    if (low === 'and' || low === 'or') return this.push('op', ',');
    if (run === 'U' && [')', ']'].includes(previous?.text ?? '')) return this.push('op', 'cup');
    const afterSpace = run.length > 1 && this.spaced && previous !== undefined && (previous.type === 'number' || previous.type === 'words');
    if (run.length > 3 || isUnitWord(run) || afterSpace || !/^[A-Za-z]+$/.test(run)) return this.push('words', run);
    for (const letter of run) this.push('symbol', letter);
  }
}
