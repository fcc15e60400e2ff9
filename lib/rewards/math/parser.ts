// From tokens to a tree: recursive descent, one token ahead, bounded in depth. What it cannot read is Unreadable: never a guess.
import { Lexer, Unreadable, type Token } from './lexer.js';
import { call, MAX_CHARS, type Answer, type Node } from './node.js';
import { integer, list, numberNode, TokenStream } from './stream.js';

/** Sets are compared item by item, in quadratic time. */
const MAX_ITEMS = 64;
const RELATIONS = new Set(['=', '<', '>', '<=', '>=', '!=', 'in']);
const STARTS = new Set(['(', '{', '[', 'frac', 'binom', 'group', 'lfloor', 'lceil', 'begin']);

class Parser extends TokenStream {
  private bars = 0;
  private unit = '';

  answer(): Answer {
    this.leadingWords();
    const node = list(this.items());
    if (this.at < this.tokens.length) throw new Unreadable(this.tokens[this.at]!.text);
    return this.unit ? { node, unit: this.unit } : { node };
  }

  /** "Area = 5": words before a relation name what is meant, as a variable would. A currency stays for currency(). */
  private leadingWords(): void {
    const next = this.tokens[1];
    if (this.tokens[0]?.type === 'words' && next?.type === 'op' && (next.text === '=' || next.text === ':')) this.at = 2;
  }

  private items(): Node[] {
    const items = [this.relation()];
    while (this.take(',') || this.take(';')) {
      while (this.take(',')); // "1, 2, and 3"
      items.push(this.relation());
      if (items.length > MAX_ITEMS) throw new Unreadable('too many items');
    }
    return items;
  }

  private relation(): Node {
    const items = [this.union()];
    const ops: string[] = [];
    for (let token = this.peek(); token?.type === 'op' && RELATIONS.has(token.text); token = this.peek()) {
      ++this.at;
      ops.push(token.text);
      items.push(this.union());
    }
    return ops.length ? { kind: 'relation', items, ops } : items[0]!;
  }

  private union(): Node {
    const items = [this.sum()];
    while (this.take('cup')) items.push(this.sum());
    return items.length === 1 ? items[0]! : { kind: 'union', items };
  }

  private sum(): Node {
    let left = this.product();
    for (;;) {
      if (this.take('+')) left = call('+', left, this.product());
      else if (this.take('-')) left = call('+', left, call('neg', this.product()));
      else if (this.take('pm')) left = call('+', left, call('pm', this.product()));
      else if (this.take('mp')) left = call('+', left, call('mp', this.product()));
      else break;
    }
    this.trailingUnit();
    return left;
  }

  /** "5 cm", "5 \text{ cm}^2": a unit ends an expression. Words of no measure are kept too; whether they count is the comparison's matter. */
  private trailingUnit(): void {
    const words: string[] = [];
    for (let token = this.peek(); token; token = this.peek()) {
      if (token.type === 'words') words.push(token.text);
      else if (words.length && token.type === 'op' && '^/'.includes(token.text)) words.push(token.text);
      else if (words.length && token.type === 'number') words.push(token.text);
      else if (words.length && token.type === 'op' && '{}'.includes(token.text) && this.depth === 0) words.push('');
      else break;
      ++this.at;
    }
    if (words.length) this.unit = words.join(' ').trim();
  }

  private product(): Node {
    let left = this.factor();
    for (;;) {
      if (this.take('*')) left = call('*', left, this.factor());
      else if (this.take('/') || this.take(':')) left = call('/', left, this.factor());
      else if (this.startsFactor()) left = this.mixed(left) ?? call('*', left, this.factor());
      else return left;
    }
  }

  /** Two numbers side by side are a mixed number (3 1/2, 3\frac12) or nothing. */
  private mixed(left: Node): Node | undefined {
    const token = this.peek()!;
    const whole = left.kind === 'number' && left.decimals === undefined;
    if (token.type === 'number') {
      const top = whole ? this.factor() : undefined;
      if (top?.kind !== 'number' || !this.take('/')) throw new Unreadable('two numbers side by side');
      return call('+', left, call('/', top, this.factor()));
    }
    if (!whole || !this.peek('frac')) return undefined;
    const fraction = this.factor();
    const plain = fraction.kind === 'call' && fraction.op === '/' && fraction.args.every((a) => a.kind === 'number');
    return call(plain ? '+' : '*', left, fraction);
  }

  private startsFactor(): boolean {
    const token = this.peek();
    if (!token) return false;
    if (token.type === 'words') return false;
    if (token.type !== 'op') return true;
    return STARTS.has(token.text) || (token.text === '|' && this.bars === 0);
  }

  private factor(): Node {
    return this.within(() => {
      if (this.take('-')) return this.negative();
      if (this.take('+')) return this.factor();
      if (this.take('pm')) return call('pm', this.factor());
      if (this.take('mp')) return call('mp', this.factor());
      return this.power();
    });
  }

  /** -3 1/2 and -3\frac12 are -(3 1/2). */
  private negative(): Node {
    const inner = this.factor();
    const next = this.peek();
    const joins = inner.kind === 'number' && (next?.type === 'number' || this.peek('frac'));
    return call('neg', joins ? (this.mixed(inner) ?? inner) : inner);
  }

  private power(): Node {
    let base = this.postfix(this.primary());
    if (this.take('^')) {
      if (this.take('degree') || this.degreeGroup()) return call('deg', base);
      base = this.postfix(call('^', base, this.argument(true)));
    }
    return base;
  }

  private degreeGroup(): boolean {
    const [open, inside, close] = this.tokens.slice(this.at, this.at + 3).map((t) => t.text);
    if (open !== '{' || inside !== 'degree' || close !== '}') return false;
    this.at += 3;
    return true;
  }

  private postfix(node: Node): Node {
    for (;;) {
      if (this.take('!')) node = call('!', node);
      else if (this.take('%')) node = call('%', node);
      else if (this.take('degree')) node = call('deg', node);
      else return node;
    }
  }

  /** What \frac12, x^2 and x_1 take: a group, or one digit, letter or command. */
  private argument(signed = false): Node {
    if (this.peek('{')) return this.primary();
    if (signed && this.take('-')) return call('neg', this.argument());
    const token = this.peek();
    if (token?.type === 'number' && !token.spaced && this.tokens[this.at - 1]?.text === 'frac') return this.digit(token);
    return this.within(() => this.primary());
  }

  /** \frac12 and \frac1{2}: the digits of one token are arguments one by one. */
  private digit(token: Token): Node {
    const [first = '', ...rest] = token.text;
    if (rest.length === 0) ++this.at;
    else this.tokens[this.at] = { type: 'number', text: rest.join(''), spaced: false };
    return numberNode(first);
  }

  private frac(op: '/' | 'binom'): Node {
    const top = this.argument();
    const token = this.peek();
    const bottom = token?.type === 'number' && !token.spaced && token.text.length > 1 ? this.digit(token) : this.argument();
    return call(op, top, bottom);
  }

  private primary(): Node {
    const token = this.peek();
    if (!token) throw new Unreadable('an end');
    ++this.at;
    if (token.type === 'number') return this.subscripted(numberNode(token.text));
    if (token.type === 'symbol') return this.subscripted({ kind: 'symbol', name: token.text });
    if (token.type === 'function') return this.functionCall(token.text);
    if (token.type === 'words') return this.currency(token.text);
    return this.bracketed(token.text);
  }

  private currency(text: string): Node {
    if (!'$€£'.includes(text)) throw new Unreadable(text);
    const node = this.factor();
    this.unit = text;
    return node;
  }

  private bracketed(text: string): Node {
    return this.within(() => {
      switch (text) {
        case 'frac':
          return this.frac('/');
        case 'binom':
          return this.frac('binom');
        case 'group':
          return this.argument();
        case 'emptyset':
          return { kind: 'set', items: [] };
        case '{':
          return this.group('}');
        case '\\{':
          return this.take('\\}') ? { kind: 'set', items: [] } : this.group('\\}');
        case '|':
          return this.bar();
        case 'lfloor':
          return call('floor', this.closed('rfloor'));
        case 'lceil':
          return call('ceil', this.closed('rceil'));
        case 'begin':
          return this.matrix();
        case '(':
        case '[':
        case '<<':
          return this.tuple(text);
        default:
          throw new Unreadable(text);
      }
    });
  }

  private closed(close: string): Node {
    const inside = this.relation();
    this.expect(close);
    return inside;
  }

  private group(close: string): Node {
    const items = this.items();
    this.expect(close);
    return close === '}' ? list(items) : { kind: 'set', items };
  }

  private bar(): Node {
    ++this.bars;
    const inside = this.closed('|');
    --this.bars;
    return call('abs', inside);
  }

  private tuple(open: string): Node {
    const bars = this.bars;
    this.bars = 0;
    const items = this.items();
    this.bars = bars;
    const token = this.peek();
    const closes = open === '<<' ? ['>>'] : [')', ']'];
    if (token?.type !== 'op' || !closes.includes(token.text)) throw new Unreadable('no closing bracket');
    ++this.at;
    if (items.length === 1 && open !== '<<') return items[0]!;
    return open === '<<' ? { kind: 'tuple', items, open: '(', close: ')' } : { kind: 'tuple', items, open, close: token.text };
  }

  private matrix(): Node {
    const rows: Node[][] = [[]];
    while (!this.take('end')) {
      if (this.take('\\\\')) rows.push([]);
      else if (!this.take('&')) rows.at(-1)!.push(this.relation());
      if (this.at >= this.tokens.length) throw new Unreadable('no \\end');
    }
    if (rows.at(-1)!.length === 0) rows.pop();
    const columns = rows[0]?.length ?? 0;
    if (columns === 0 || rows.some((row) => row.length !== columns)) throw new Unreadable('a ragged matrix');
    if (rows.length === 1 || columns === 1) return { kind: 'tuple', items: rows.flat(), open: '(', close: ')' };
    return { kind: 'matrix', rows };
  }

  /** x_1 is a name of its own; 101_2 is a number with its base, which is kept as its unit. */
  private subscripted(node: Node): Node {
    if (!this.take('_')) return node;
    const begin = this.at;
    this.argument();
    const name = this.tokens
      .slice(begin, this.at)
      .map((t) => t.text)
      .filter((t) => t !== '{' && t !== '}')
      .join('');
    if (node.kind === 'symbol') return { kind: 'symbol', name: `${node.name}_${name}` };
    this.unit = `base ${name}`;
    return node;
  }

  private functionCall(name: string): Node {
    if (name === 'sqrt') return this.root();
    const base = name === 'log' && this.take('_') ? this.argument() : undefined;
    const power = this.take('^') ? this.argument(true) : undefined;
    const arg = this.peek('(') || this.peek('{') ? this.primary() : this.functionArgument();
    const value: Node = base ? call('log_base', base, arg) : { kind: 'function', name, arg };
    if (!power) return value;
    const inverse = power.kind === 'call' && power.op === 'neg' && !base;
    if (inverse) throw new Unreadable('an inverse function');
    return call('^', value, power);
  }

  /** sin 2x: what stands side by side, up to a sign or another function. */
  private functionArgument(): Node {
    return this.within(() => {
      let arg = this.power();
      while (this.startsFactor() && this.peek()!.type !== 'function') arg = call('*', arg, this.power());
      return arg;
    });
  }

  private root(): Node {
    let degree: Node = integer(2);
    if (this.take('[')) degree = this.closed(']');
    return call('root', this.peek('(') ? this.primary() : this.argument(), degree);
  }
}

/** Reads an answer; undefined where it is no mathematics that this parser knows. Never throws; time is linear in the text. */
export function parseAnswer(text: string): Answer | undefined {
  if (text.length > MAX_CHARS) return undefined;
  try {
    return new Parser(new Lexer(text).tokens).answer();
  } catch (error) {
    if (error instanceof Unreadable) return undefined;
    throw error;
  }
}
