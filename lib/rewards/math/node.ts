// A mathematical answer as a tree. Everything here is of bounded size: an answer has at most MAX_CHARS characters and MAX_DEPTH levels.
import type Fraction from 'fraction.js';

/** An exact rational number. */
export type Rational = InstanceType<typeof Fraction>;

/** Longer texts are no answers: they are not parsed. */
export const MAX_CHARS = 1000;
/** Deeper nesting is not parsed. */
export const MAX_DEPTH = 40;

export type Operator =
  '+' | '*' | '/' | '^' | 'neg' | 'pm' | 'mp' | '!' | '%' | 'deg' | 'abs' | 'floor' | 'ceil' | 'binom' | 'root' | 'log_base';

export type Node =
  /** A number as written; `decimals`: digits behind the point (undefined: an integer), `digits`: significant ones. */
  | { kind: 'number'; value: Rational; decimals?: number; digits: number }
  | { kind: 'symbol'; name: string }
  | { kind: 'call'; op: Operator; args: Node[] }
  | { kind: 'function'; name: string; arg: Node }
  /** Tuples, intervals, vectors: order counts, and so do the brackets. */
  | { kind: 'tuple'; items: Node[]; open: string; close: string }
  /** Sets, and lists without brackets: order does not count. */
  | { kind: 'set'; items: Node[] }
  | { kind: 'union'; items: Node[] }
  | { kind: 'matrix'; rows: Node[][] }
  /** a = b, a < b <= c: operators between items. */
  | { kind: 'relation'; items: Node[]; ops: string[] };

/** What was read: an expression, and the unit that followed or preceded it. */
export interface Answer {
  node: Node;
  unit?: string;
}

export const call = (op: Operator, ...args: Node[]): Node => ({ kind: 'call', op, args });

/** The parts of a node. */
export function children(node: Node): Node[] {
  switch (node.kind) {
    case 'number':
    case 'symbol':
      return [];
    case 'call':
      return node.args;
    case 'function':
      return [node.arg];
    case 'matrix':
      return node.rows.flat();
    default:
      return node.items;
  }
}

/** Whether a node or a part of it is of that sort. */
export const contains = (node: Node, sought: (node: Node) => boolean): boolean =>
  sought(node) || children(node).some((child) => contains(child, sought));

/** Names of the variables; constants (pi, e, i, infinity) are none. */
export function variables(node: Node, into = new Set<string>()): Set<string> {
  if (node.kind === 'symbol' && !CONSTANTS.has(node.name)) into.add(node.name);
  for (const child of children(node)) variables(child, into);
  return into;
}

export const CONSTANTS = new Set(['pi', 'e', 'i', 'infty']);
