// From tokens to a tree: recursive descent, one token ahead, bounded in depth. What it cannot read is Unreadable: never a guess.
import { Lexer, Unreadable } from './lexer.js';
import { call, MAX_CHARS, type Answer, type Node } from './node.js';
import { list } from './stream.js';
import { Terms } from './terms.js';

/** Sets are compared item by item, in quadratic time. */
const MAX_ITEMS = 64;
const RELATIONS = new Set(['=', '<', '>', '<=', '>=', '!=', 'in']);
const STARTS = new Set(['(', '{', '[', 'frac', 'binom', 'group', 'lfloor', 'lceil', 'begin']);

class Parser extends Terms {
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

  protected items(): Node[] {
    const items = [this.relation()];
    while (this.take(',') || this.take(';')) {
      while (this.take(',')); // "1, 2, and 3"
      items.push(this.relation());
      if (items.length > MAX_ITEMS) throw new Unreadable('too many items');
    }
    return items;
  }

  protected relation(): Node {
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

  protected startsFactor(): boolean {
    const token = this.peek();
    if (!token) return false;
    if (token.type === 'words') return false;
    if (token.type !== 'op') return true;
    return STARTS.has(token.text) || (token.text === '|' && this.bars === 0);
  }

  protected factor(): Node {
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

  protected power(): Node {
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
