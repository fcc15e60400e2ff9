// A list of tokens with a place in it, and the leaves of the tree.
import Fraction from 'fraction.js';
import { Unreadable, type Token } from './lexer.js';
import { MAX_CHARS, MAX_DEPTH, type Node } from './node.js';

export const integer = (n: number): Node => ({ kind: 'number', value: new Fraction(n), digits: 1 });

export function numberNode(text: string): Node {
  const [, mantissa = '', exponent = '0'] = /^([\d.]+)(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const [whole = '', behind = ''] = mantissa.split('.');
  const shift = Number(exponent) - behind.length;
  if (Math.abs(shift) > MAX_CHARS) throw new Unreadable('too large');
  const digits = BigInt(whole + behind || '0');
  const scale = 10n ** BigInt(Math.abs(shift));
  const value = shift < 0 ? new Fraction(digits, scale) : new Fraction(digits * scale);
  const significant = (whole + behind).replace(/^0+/, '').length;
  return { kind: 'number', value, decimals: mantissa.includes('.') || exponent !== '0' ? -shift : undefined, digits: significant };
}

/** Items that stand alone are themselves. */
export function list(items: Node[]): Node {
  return items.length === 1 ? items[0]! : { kind: 'set', items };
}

export class TokenStream {
  protected at = 0;
  protected depth = 0;

  constructor(protected readonly tokens: Token[]) {}

  protected peek(text?: string): Token | undefined {
    const token = this.tokens[this.at];
    return text === undefined || (token?.type === 'op' && token.text === text) ? token : undefined;
  }

  protected take(text: string): boolean {
    if (!this.peek(text)) return false;
    ++this.at;
    return true;
  }

  protected expect(text: string): void {
    if (!this.take(text)) throw new Unreadable(`no ${text}`);
  }

  /** Runs one level deeper. */
  protected within<T>(parse: () => T): T {
    if (++this.depth > MAX_DEPTH) throw new Unreadable('too deep');
    const result = parse();
    --this.depth;
    return result;
  }
}
