// The value of an expression: an exact fraction where it has one of bounded size, else a complex number in double precision.
import Complex from 'complex.js';
import Fraction from 'fraction.js';
import type { Node, Operator, Rational } from './node.js';

/** Fractions beyond this size are no longer exact: arithmetic on them would take time that a hostile answer could choose. */
const LIMIT_BITS = 4096;
const LIMIT = 2n ** BigInt(LIMIT_BITS);
/** At points, where expressions are evaluated again and again. */
const POINT_LIMIT = 2n ** 1024n;

const bounded = (f: Rational, limit = LIMIT): Rational | undefined => (f.n < limit && f.d < limit ? f : undefined);

function exactPower(base: Rational, exponent: Rational): Rational | undefined {
  if (exponent.d !== 1n || exponent.n > BigInt(LIMIT_BITS)) return undefined;
  const power = Number(exponent.n);
  const bits = Math.max(base.n.toString(2).length, base.d.toString(2).length) - 1;
  if (bits * power > LIMIT_BITS || (base.n === 0n && exponent.s < 0n)) return undefined;
  return base.pow(new Fraction(exponent.s * exponent.n)) ?? undefined;
}

function exactCall(op: Operator, a: Rational, b: Rational | undefined): Rational | undefined {
  switch (op) {
    case 'neg':
      return a.neg();
    case '%':
      return a.div(100);
    case 'abs':
      return a.abs();
    case 'floor':
      return a.floor();
    case 'ceil':
      return a.ceil();
    case '!':
      return a.d === 1n && a.s >= 0n && a.n <= 170n ? factorial(a.n) : undefined;
    case '+':
      return b && a.add(b);
    case '*':
      return b && a.mul(b);
    case '/':
      return b && b.n !== 0n ? a.div(b) : undefined;
    case '^':
      return b && exactPower(a, b);
    case 'binom':
      return b && binomial(a, b);
    default:
      return undefined;
  }
}

function factorial(n: bigint): Rational {
  let product = 1n;
  for (let k = 2n; k <= n; ++k) product *= k;
  return new Fraction(product);
}

function binomial(n: Rational, k: Rational): Rational | undefined {
  if (n.d !== 1n || k.d !== 1n || n.s < 0n || k.s < 0n || n.n > 1000n) return undefined;
  if (k.n > n.n) return new Fraction(0);
  let value = 1n;
  for (let j = 1n; j <= k.n; ++j) value = (value * (n.n - k.n + j)) / j;
  return new Fraction(value);
}

/** Values of variables by name. */
export type Point = ReadonlyMap<string, Rational>;

/** The exact value of an expression of rational numbers at a point; undefined where it has none, or none of bounded size. */
export function exact(node: Node, at?: Point): Rational | undefined {
  if (node.kind === 'number') return bounded(node.value);
  if (node.kind === 'symbol') return at?.get(node.name);
  if (node.kind !== 'call') return undefined;
  const values: Rational[] = [];
  for (const arg of node.args) {
    const value = exact(arg, at);
    if (!value) return undefined;
    values.push(value);
  }
  const result = exactCall(node.op, values[0]!, values[1]);
  return result && bounded(result, at ? POINT_LIMIT : LIMIT);
}

const real = (x: number): Complex => new Complex(x, 0);
const NONE = new Complex(NaN, NaN);

const CONSTANT: Record<string, Complex> = {
  pi: real(Math.PI),
  e: real(Math.E),
  i: new Complex(0, 1),
};

/** Roots of negative numbers: odd ones are real (as people write them), even ones imaginary. */
function root(x: Complex, degree: Complex): Complex {
  if (degree.im === 0 && x.im === 0 && x.re < 0 && Math.abs(degree.re) % 2 === 1) return real(-((-x.re) ** (1 / degree.re)));
  return degree.re === 2 && degree.im === 0 ? x.sqrt() : x.pow(real(1).div(degree));
}

const whole = (x: Complex, by: (v: number) => number): Complex => (x.im === 0 ? real(by(x.re)) : NONE);

function applyOperator(op: Operator, a: Complex, b: Complex): Complex {
  switch (op) {
    case '+':
      return a.add(b);
    case '*':
      return a.mul(b);
    case '/':
      return b.re === 0 && b.im === 0 ? NONE : a.div(b);
    case '^':
      return a.pow(b);
    case 'neg':
      return a.neg();
    case '%':
      return a.div(real(100));
    case 'deg':
      return a.mul(real(Math.PI / 180));
    case 'abs':
      return real(a.abs());
    case 'floor':
      return whole(a, Math.floor);
    case 'ceil':
      return whole(a, Math.ceil);
    case 'root':
      return root(a, b);
    case 'log_base':
      return b.log().div(a.log());
    case '!':
    case 'binom': // only exact ones have a value
    case 'pm':
    case 'mp': // two values: compare.ts writes them out
      return NONE;
  }
}

const FUNCTIONS: Record<string, (x: Complex) => Complex> = {
  sin: (x) => x.sin(),
  cos: (x) => x.cos(),
  tan: (x) => x.tan(),
  cot: (x) => x.cot(),
  sec: (x) => x.sec(),
  csc: (x) => x.csc(),
  arcsin: (x) => x.asin(),
  arccos: (x) => x.acos(),
  arctan: (x) => x.atan(),
  sinh: (x) => x.sinh(),
  cosh: (x) => x.cosh(),
  tanh: (x) => x.tanh(),
  ln: (x) => x.log(),
  log: (x) => x.log(),
  exp: (x) => x.exp(),
  abs: (x) => real(x.abs()),
  floor: (x) => whole(x, Math.floor),
  ceil: (x) => whole(x, Math.ceil),
};

/** The value at a point; NaN where it has none there (a division by zero, a factorial of a fraction, a tuple). */
export function evaluate(node: Node, at: Point): Complex {
  switch (node.kind) {
    case 'number':
      return real(node.value.valueOf());
    case 'symbol':
      return CONSTANT[node.name] ?? real(at.get(node.name)?.valueOf() ?? NaN);
    case 'function':
      return FUNCTIONS[node.name]!(evaluate(node.arg, at));
    case 'call': {
      const known = node.op === '!' || node.op === 'binom' ? exact(node, at) : undefined;
      if (known) return real(known.valueOf());
      return applyOperator(node.op, evaluate(node.args[0]!, at), node.args[1] ? evaluate(node.args[1], at) : NONE);
    }
    default:
      return NONE;
  }
}
