// The atoms of an expression: numbers, names, brackets, fractions, roots, functions, matrices.
import { Unreadable, type Token } from './lexer.js';
import { call, type Node } from './node.js';
import { integer, list, numberNode, TokenStream } from './stream.js';

/** What the atoms need of the grammar around them. */
export abstract class Terms extends TokenStream {
  protected bars = 0;
  protected unit = '';

  protected abstract items(): Node[];
  protected abstract relation(): Node;
  protected abstract factor(): Node;
  protected abstract power(): Node;
  protected abstract startsFactor(): boolean;

  /** What \frac12, x^2 and x_1 take: a group, or one digit, letter or command. */
  protected argument(signed = false): Node {
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

  protected primary(): Node {
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
