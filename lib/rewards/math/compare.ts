// Whether two answers are the same mathematical object.
import type Complex from 'complex.js';
import Fraction from 'fraction.js';
import { evaluate, exact, type Point } from './evaluate.js';
import { call, contains, variables, type Answer, type Node, type Rational } from './node.js';
import { canonicalUnit } from './units.js';

/** Of two values of which one at least is irrational: how far double precision may take them apart. */
const RELATIVE = 1e-9;
/** A decimal stands for a value that it is the rounding of, when it has so many significant digits. */
const ROUNDED_DIGITS = 6;
/** Identities between expressions with variables are tried at so many points; so many must have a value. */
const POINTS = 8;
const NEEDED = 4;
const MAX_VARIABLES = 12;

const NOWHERE: Point = new Map();

/** A point of both signs and no special values, of sevenths: the same for both sides, since it depends on the names alone. */
function point(names: string[], k: number): Point {
  let state = Math.imul(2654435761, k + 1);
  const next = (below: number) => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    return ((state >>> 8) & 0xffff) % below;
  };
  const seventh = () => new Fraction([2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 15, 16][next(13)]! * (next(2) ? 1 : -1), 7);
  return new Map(names.map((name) => [name, seventh()]));
}

const finite = (z: Complex): boolean => Number.isFinite(z.re) && Number.isFinite(z.im);

function near(a: Complex, b: Complex): boolean {
  const scale = Math.max(a.abs(), b.abs());
  return a.sub(b).abs() <= RELATIVE * scale + 1e-300;
}

/** A number written with decimals, perhaps with a sign. */
function decimal(node: Node): { places: number; digits: number } | undefined {
  if (node.kind === 'call' && (node.op === 'neg' || node.op === '%')) return decimal(node.args[0]!);
  if (node.kind !== 'number' || node.decimals === undefined) return undefined;
  return { places: node.decimals, digits: node.digits };
}

/** Whether a is a decimal with digits enough that is b, rounded to its last place. */
function rounds(a: Node, valueA: number, valueB: number): boolean {
  const written = decimal(a);
  if (!written || written.digits < ROUNDED_DIGITS) return false;
  const percent = a.kind === 'call' && a.op === '%' ? 2 : 0;
  return Math.abs(valueA - valueB) <= 0.5 * 10 ** -(written.places + percent) * (1 + 1e-9);
}

function sameConstant(a: Node, b: Node): boolean {
  const [x, y]: (Rational | undefined)[] = [exact(a), exact(b)];
  if (x && y) return x.equals(y) || rounds(a, x.valueOf(), y.valueOf()) || rounds(b, y.valueOf(), x.valueOf());
  const [u, v] = [evaluate(a, NOWHERE), evaluate(b, NOWHERE)];
  if (!finite(u) || !finite(v)) return false;
  return near(u, v) || (u.im === 0 && v.im === 0 && (rounds(a, u.re, v.re) || rounds(b, v.re, u.re)));
}

/** Whether two expressions agree at a point in double precision; undefined where neither has a value. */
function agree(a: Node, b: Node, at: Point, same: (u: Complex, v: Complex) => boolean): boolean | undefined {
  const [u, v] = [evaluate(a, at), evaluate(b, at)];
  if (!finite(u) && !finite(v)) return undefined;
  return finite(u) && finite(v) && same(u, v);
}

/** Schwartz and Zippel's test: equal at random points is equal (but for chance), unequal at one is unequal. */
function everywhere(names: string[], agreeAt: (at: Point) => boolean | undefined): boolean {
  let agreed = 0;
  for (let k = 0; k < POINTS; ++k) {
    const agreement = agreeAt(point(names, k));
    if (agreement === false) return false;
    if (agreement) ++agreed;
  }
  return agreed >= NEEDED;
}

function sameFunction(a: Node, b: Node, names: string[]): boolean {
  return everywhere(names, (at) => {
    const [x, y] = [exact(a, at), exact(b, at)];
    return x && y ? x.equals(y) : agree(a, b, at, near);
  });
}

const isInfinity = (node: Node): number =>
  node.kind === 'symbol' && node.name === 'infty'
    ? 1
    : node.kind === 'call' && node.op === 'neg' && node.args[0]!.kind === 'symbol' && node.args[0]!.name === 'infty'
      ? -1
      : 0;

function sameExpression(a: Node, b: Node): boolean {
  const infinities = [isInfinity(a), isInfinity(b)];
  if (infinities[0] || infinities[1]) return infinities[0] === infinities[1];
  const names = [...variables(a)].sort();
  const others = [...variables(b)].sort();
  if (names.length > MAX_VARIABLES || others.length > MAX_VARIABLES) return false;
  if (names.length === 0 && others.length === 0) return samePercent(a, b);
  return sameFunction(a, b, [...new Set([...names, ...others])]);
}

/** 50 % is 0.5, and 50 (the unit left out). */
function samePercent(a: Node, b: Node): boolean {
  if (sameConstant(a, b)) return true;
  const inner = (node: Node) => (node.kind === 'call' && node.op === '%' ? node.args[0]! : undefined);
  const [p, q] = [inner(a), inner(b)];
  return !!p !== !!q && sameConstant(p ?? a, q ?? b);
}

/** Each item of one has its own in the other, whatever the order. */
function sameItems(a: Node[], b: Node[]): boolean {
  if (a.length !== b.length) return false;
  const left = [...b];
  return a.every((item) => {
    const at = left.findIndex((other) => sameNode(item, other));
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}

const distinct = (items: Node[]): Node[] => items.filter((item, i) => !items.slice(0, i).some((earlier) => sameNode(item, earlier)));

const FLIPPED: Record<string, string> = { '<': '>', '>': '<', '<=': '>=', '>=': '<=', '=': '=', '!=': '!=' };

/** x > 3 as (3, oo), 1 <= x < 2 as [1, 2); undefined for what bounds no single variable. */
function asInterval(node: Node): Node | undefined {
  if (node.kind !== 'relation') return undefined;
  const isVariable = (n?: Node) => n?.kind === 'symbol' && variables(n).size === 1;
  if (node.ops[0] === 'in' && node.ops.length === 1 && isVariable(node.items[0])) return node.items[1];
  const down = node.ops.some((op) => op.startsWith('>'));
  const items = down ? [...node.items].reverse() : node.items;
  const ops = (down ? [...node.ops].reverse() : node.ops).map((op) => (down ? FLIPPED[op]! : op));
  if (!ops.every((op) => op === '<' || op === '<=')) return undefined;
  const infinity: Node = { kind: 'symbol', name: 'infty' };
  const interval = (low: Node, lowOp: string, high: Node, highOp: string): Node => ({
    kind: 'tuple',
    items: [low, high],
    open: lowOp === '<' ? '(' : '[',
    close: highOp === '<' ? ')' : ']',
  });
  if (ops.length === 2 && isVariable(items[1])) return interval(items[0]!, ops[0]!, items[2]!, ops[1]!);
  if (ops.length !== 1) return undefined;
  if (isVariable(items[0])) return interval(call('neg', infinity), '<', items[1]!, ops[0]!);
  if (isVariable(items[1])) return interval(items[0]!, ops[0]!, infinity, '<');
  return undefined;
}

/** y, (x, y), f(x), f(2), 2 + 3: what may stand on the left of an equation that only names, or computes, its right side. */
function isName(node: Node): boolean {
  if (node.kind === 'symbol' || variables(node).size === 0) return true;
  if (node.kind === 'tuple') return node.items.every((item) => item.kind === 'symbol');
  return (
    node.kind === 'call' && node.op === '*' && node.args[0]!.kind === 'symbol' && ['symbol', 'number', 'tuple'].includes(node.args[1]!.kind)
  );
}

type Relation = Extract<Node, { kind: 'relation' }>;
const equation = (node: Node): Relation | undefined => (node.kind === 'relation' && node.ops.every((op) => op === '=') ? node : undefined);

/** An equation of variables against another: one side minus the other, up to a constant factor. */
function sameEquation(a: Relation, b: Relation): boolean {
  if (a.items.length !== 2 || b.items.length !== 2) return false;
  const difference = (n: Relation) => call('+', n.items[0]!, call('neg', n.items[1]!));
  const names = [...new Set([...variables(a), ...variables(b)])].sort();
  if (names.length === 0 || names.length > MAX_VARIABLES) return false;
  const [left, right] = [difference(a), difference(b)];
  let factor: Complex | undefined;
  const proportional = (u: Complex, v: Complex) => {
    if (v.abs() < 1e-12 || u.abs() < 1e-12) return u.abs() < 1e-12 && v.abs() < 1e-12;
    factor ??= u.div(v);
    return near(u, v.mul(factor));
  };
  return everywhere(names, (at) => agree(left, right, at, proportional));
}

function sameRelation(a: Node, b: Node): boolean {
  const [x, y] = [asInterval(a), asInterval(b)];
  if (x || y) return sameNode(x ?? a, y ?? b);
  const [p, q] = [equation(a), equation(b)];
  if (p && q) {
    const sameName = isName(p.items[0]!) && isName(q.items[0]!) && sameExpression(p.items[0]!, q.items[0]!);
    return (sameName && sameNode(p.items.at(-1)!, q.items.at(-1)!)) || sameEquation(p, q);
  }
  // One says "x = 5" or "2 + 3 = 5", the other "5".
  if (q) return isName(q.items[0]!) && sameNode(a, q.items.at(-1)!);
  if (p) return isName(p.items[0]!) && sameNode(p.items.at(-1)!, b);
  return (
    a.kind === 'relation' &&
    b.kind === 'relation' &&
    a.ops.join() === b.ops.join() &&
    a.items.every((item, i) => sameExpression(item, b.items[i]!))
  );
}

/** Plus-minus signs written out: both values. */
function expand(node: Node): Node {
  if (node.kind === 'set') return { ...node, items: node.items.map(expand).flatMap((n) => (n.kind === 'set' ? n.items : [n])) };
  const isSign = (n: Node) => n.kind === 'call' && (n.op === 'pm' || n.op === 'mp');
  const right = equation(node)?.items.at(-1);
  if (right && contains(right, isSign)) return expand(right);
  if (!contains(node, isSign)) return node;
  return { kind: 'set', items: [withSign(node, 1), withSign(node, -1)] };
}

function withSign(node: Node, sign: number): Node {
  if (node.kind === 'function') return { ...node, arg: withSign(node.arg, sign) };
  if (node.kind === 'tuple' || node.kind === 'union') return { ...node, items: node.items.map((item) => withSign(item, sign)) };
  if (node.kind !== 'call') return node;
  const args = node.args.map((arg) => withSign(arg, sign));
  if (node.op !== 'pm' && node.op !== 'mp') return { ...node, args };
  return (node.op === 'pm') === (sign === 1) ? args[0]! : call('neg', args[0]!);
}

const only = (node: Node): Node => (node.kind === 'set' && node.items.length === 1 ? node.items[0]! : node);

function sameNode(first: Node, second: Node): boolean {
  const [a, b] = [only(first), only(second)];
  if (a.kind === 'set' && b.kind === 'set') return sameItems(distinct(a.items), distinct(b.items));
  if (a.kind === 'relation' || b.kind === 'relation') return sameRelation(a, b);
  if (a.kind === 'tuple' && b.kind === 'tuple')
    return (
      a.open === b.open &&
      a.close === b.close &&
      a.items.length === b.items.length &&
      a.items.every((item, i) => sameNode(item, b.items[i]!))
    );
  if (a.kind === 'union' && b.kind === 'union') return sameItems(distinct(a.items), distinct(b.items));
  if (a.kind === 'matrix' && b.kind === 'matrix')
    return (
      a.rows.length === b.rows.length &&
      a.rows[0]!.length === b.rows[0]!.length &&
      a.rows.flat().every((item, i) => sameExpression(item, b.rows.flat()[i]!))
    );
  const scalar = (n: Node) => ['number', 'symbol', 'call', 'function'].includes(n.kind);
  return scalar(a) && scalar(b) && sameExpression(a, b);
}

const degrees = (answer: Answer): Answer =>
  answer.node.kind === 'call' && answer.node.op === 'deg' ? { node: answer.node.args[0]!, unit: '°' } : answer;

/**
 * Whether `answer` is the same as `reference`: equal fractions; equal to nine digits where a value is irrational; a decimal of six digits
 * or more that is the other, rounded; the same function at random points; sets and lists without order; tuples, intervals and matrices
 * item by item; an inequality and its interval; equations up to a factor. A unit may be left out, another one is another answer.
 */
export function sameAnswer(reference: Answer, answer: Answer): boolean {
  const [a, b] = [degrees(reference), degrees(answer)];
  const units = [a, b].map(({ unit }) => (unit === undefined ? undefined : unit.startsWith('base ') ? unit : canonicalUnit(unit)));
  if (units[0] !== undefined && units[1] !== undefined && units[0] !== units[1]) return false;
  return sameNode(expand(a.node), expand(b.node));
}
