// Which answers are the same: each pair both ways round, and hostile texts within a second.
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { sameAnswer } from '../../lib/rewards/math/compare.js';
import { parseAnswer } from '../../lib/rewards/math/parser.js';
import { canonicalUnit } from '../../lib/rewards/math/units.js';

const r = String.raw;

function same(a: string, b: string): boolean | string {
  const [x, y] = [parseAnswer(a), parseAnswer(b)];
  return x && y ? sameAnswer(x, y) : `not read: ${x ? b : a}`;
}

const equal: [string, string, string][] = [
  ['fraction and decimal', r`\frac{1}{2}`, '0.5'],
  ['fractions without braces', r`\frac12`, '1/2'],
  ['one brace', r`\frac1{2}`, '.5'],
  ['the other brace', r`\frac{1}2`, '1/2'],
  ['display and text style', r`\dfrac{3}{4}`, r`\tfrac{6}{8}`],
  ['a sign above and before', r`\dfrac{-1}{2}`, r`-\frac{1}{2}`],
  ['trailing zeros', '1.50', '1.5'],
  ['a full stop', '5.', '5'],
  ['thousands', '1,000', '1000'],
  ['thousands in braces', '1{,}000{,}000', '10^6'],
  ['thousands by thin space', r`1\,234`, '1234'],
  ['thousands in a grouping', '(1,000)', '1000'],
  ['scientific', r`2.5\times10^3`, '2500'],
  ['scientific, typed', '1e3', '1000'],
  ['percent and share', r`50\%`, '0.5'],
  ['percent left out', r`50\%`, '50'],
  ['typed percent', '12.5%', r`\frac18`],
  ['mixed number', r`3\frac{1}{2}`, '3.5'],
  ['typed mixed number', '3 1/2', '7/2'],
  ['negative mixed number', '-3 1/2', '-3.5'],
  ['roots', r`\sqrt{8}`, r`2\sqrt{2}`],
  ['rational denominators', r`\frac{2}{\sqrt{2}}`, r`\sqrt 2`],
  ['cube roots of negative numbers', r`\sqrt[3]{-8}`, '-2'],
  ['typed roots and pi', 'sqrt(2)*pi', r`\pi\sqrt{2}`],
  ['unicode', '2√3 × π', r`2\sqrt3\cdot\pi`],
  ['six digits of a fraction', '0.333333', '1/3'],
  ['six digits of pi', '3.14159', r`\pi`],
  ['complex numbers', '3+4i', '4i+3'],
  ['an identity of constants', r`e^{i\pi}`, '-1'],
  ['logarithms', r`\log_{2}{8}`, '3'],
  ['binomials and factorials', r`\binom{5}{2}`, r`\frac{5!}{12}`],
  ['floor', r`\lfloor 2.5\rfloor`, '2'],
  ['degrees', r`90^\circ`, '90°'],
  ['degrees left out', r`90^{\circ}`, '90'],
  ['a unit left out', r`5\text{ cm}`, '5'],
  ['words that are no unit', '5 apples', '5 pieces'],
  ['spellings of a unit', r`5\text{ cm}^2`, '5 square centimeters'],
  ['rates', r`7\text{ miles per hour}`, '7 mph'],
  ['money', r`\$12.50`, '12.5 dollars'],
  ['variables commute', 'x+y', 'y+x'],
  ['a square multiplied out', '(x+1)^2', 'x^2+2x+1'],
  ['a fraction reduced', r`\frac{x+1}{x^2-1}`, r`\frac{1}{x-1}`],
  ['trigonometry', r`\sin^2 x+\cos^2 x`, '1'],
  ['double angles', r`\sin 2x`, r`2\sin x\cos x`],
  ['a constant of integration', r`\frac{x^2}{2}+C`, r`C + \frac12 x^2`],
  ['indices', 'x_1+x_{2}', 'x_{2}+x_{1}'],
  ['sets in any order', r`\{1,2\}`, r`\{2, 1\}`],
  ['a typed set and a list', '{1, 2, 3}', '3, 2, 1'],
  ['a set of one', r`\{5\}`, '5'],
  ['the empty set', r`\emptyset`, r`\{\}`],
  ['and', r`10\text{ and }20`, '10, 20'],
  ['plus-minus', r`\pm2`, '2, -2'],
  ['plus-minus in an equation', r`x=\pm 2`, r`\{-2,2\}`],
  ['plus-minus in a tuple', r`(\pm2, 1)`, '(2,1), (-2,1)'],
  ['plus-minus inside', r`1 \pm \sqrt{2}`, r`1+\sqrt2, 1-\sqrt2`],
  ['tuples', r`\left(1,\frac{1}{2}\right)`, '(1, 0.5)'],
  ['vectors', r`\begin{pmatrix}1\\2\end{pmatrix}`, '(1,2)'],
  ['matrices', r`\begin{pmatrix}1&2\\3&4\end{pmatrix}`, r`\begin{bmatrix}1&2\\3&\frac82\end{bmatrix}`],
  ['unions in any order', r`(-\infty,2)\cup(3,4]`, r`(3,4] \cup (-\infty, 2)`],
  ['inequality and interval', '1<x\\le2', '(1,2]'],
  ['inequality turned round', r`3\ge x`, r`(-\infty,3]`],
  ['membership', r`x\in[1,2]`, '[1,2]'],
  ['x = ', 'x=5', '5'],
  ['a sum with its result', '5', '2+3=5'],
  ['words =', r`\text{Area}=5`, '5'],
  ['equations up to form', '2x+y=3', 'y=3-2x'],
  ['equations up to a factor', '2x+4y=6', 'x+2y-3=0'],
  ['function of x', 'f(x)=2x+1', '2x+1'],
  ['ratios', '12:15', '4:5'],
  ['a base left out', '101_2', '101'],
  ['boxes inside', r`\boxed{5}`, '5'],
  ['absolute values', '|-3|', '3'],
  ['numbers beyond double precision', '10000000000000000000001', '10000000000000000000000+1'],
];
const unequal: [string, string, string][] = [
  ['signs', '-5', '5'],
  ['few digits', '1/3', '0.3333'],
  ['the wrong sixth digit', '1/3', '0.333334'],
  ['a decimal near an integer', '1000000', '1000000.5'],
  ['neighbours beyond double precision', '10000000000000000000001', '10000000000000000000000'],
  ['two digits of pi', r`\pi`, '3.14'],
  ['percent of another number', r`50\%`, '5'],
  ['units', r`5\text{ cm}`, r`5\text{ m}`],
  ['time', '5 hours', '5 minutes'],
  ['squares', r`5\text{ cm}^2`, '5 cm'],
  ['variables', 'a', 'b'],
  ['upper and lower case', 'X', 'x'],
  ['a root of a square', r`\sqrt{x^2}`, 'x'],
  ['an absolute value', '|x|', 'x'],
  ['a function against its value', 'x', '1'],
  ['order in a tuple', '(1,2)', '(2,1)'],
  ['brackets of an interval', '(1,2)', '[1,2]'],
  ['a shorter set', r`\{1,2,3\}`, r`\{1,2\}`],
  ['a list against one of it', '1, 2', '2'],
  ['a matrix transposed', r`\begin{pmatrix}1&2\\3&4\end{pmatrix}`, r`\begin{pmatrix}1&3\\2&4\end{pmatrix}`],
  ['inequalities', 'x>3', r`x\ge3`],
  ['one of two values', r`\pm2`, '2'],
  ['one of two points', r`(\pm2, 1)`, '(2, 1)'],
  ['names of functions', 'f(x)=2x+1', 'g(x)=2x+1'],
  ['equations', 'x+y=1', 'x+y=2'],
  ['bases', '101_2', '101_3'],
  ['infinities', r`\infty`, r`-\infty`],
];

describe('sameAnswer', () => {
  test.each(equal)('%s: %s is %s', (_, a, b) => expect([same(a, b), same(b, a)]).toEqual([true, true]));
  test.each(unequal)('%s: %s is not %s', (_, a, b) => expect([same(a, b), same(b, a)]).toEqual([false, false]));
});

test.each([
  '',
  'Paris',
  '5 6',
  '(1,2',
  '{1',
  r`\frac{1}`,
  '1+',
  r`\begin{pmatrix}1&2\\3\end{pmatrix}`,
  r`\int x`,
  '=',
  '2^',
  '$',
  'x¿',
  r`\sin^{-1} x`,
])('not read: %j', (text) => expect(parseAnswer(text)).toBeUndefined());

test('units have one spelling; what is no measure has none', () => {
  expect(['cm', 'Centimeters', 'square feet', 'ft^2', 'miles per hour', 'm/s', 'apples', ''].map(canonicalUnit)).toEqual([
    ...['cm', 'cm', 'ft^2', 'ft^2', 'mi/h', 'm/s', undefined, undefined],
  ]);
});

test('large powers are exact', () => {
  expect(same('2^{1000}', '2^{1000}+1')).toBe(false);
  expect(same('2^{1000}', '4^{500}')).toBe(true);
});

/** Pieces of answers in any order: nothing throws, everything that is read is itself and what it is read as again. */
test('any text is read or not, quickly, and is the same as itself', () => {
  const pieces = ['1', '23', '4.5', '.', ',', '+', '-', '*', '/', '^', '_', '!', '%', '(', ')', '[', ']', '{', '}', '|', '=', '<', ' ', 'x', 'y', 'i', 'e',
    '\\pi ', '\\frac', '\\sqrt', '\\sin ', '\\log', '\\pm ', '\\infty ', '\\cup ', '\\{', '\\}', '\\text{cm}', '\\$', '°', '0', '\\left', '\\right',
    '\\begin{pmatrix}', '\\end{pmatrix}', '&', '\\\\', 'binom', '\\binom', '\\lfloor ', '\\rfloor ', ';', ':', 'sqrt(', '\\boxed{', '\\emptyset ']; // prettier-ignore
  const text = fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join(''));
  let read = 0;
  fc.assert(
    fc.property(text, text, (a, b) => {
      const begin = performance.now();
      const [x, y] = [parseAnswer(a), parseAnswer(b)];
      if (x && y) expect(sameAnswer(x, y)).toBe(sameAnswer(x, parseAnswer(b)!));
      read += x ? 1 : 0;
      expect(performance.now() - begin).toBeLessThan(500);
    }),
    { numRuns: 5000, seed: 7 },
  );
  expect(read).toBeGreaterThan(150);
});

/** Random expressions without division: each equals itself written another way. */
test('an expression is the same with its terms turned round, and not the same times 1.001', () => {
  const leaf = fc.oneof(
    fc.integer({ min: 1, max: 99 }).map(String),
    fc.constantFrom('x', 'y', '\\pi', '\\sqrt{2}', '\\frac{3}{7}', '1.25'),
  );
  const { node } = fc.letrec<{ node: [string, string] }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      leaf.map((t): [string, string] => [t, t]),
      fc.tuple(tie('node'), tie('node')).map(([a, b]): [string, string] => [`(${a[0]}+${b[0]})`, `(${b[1]} + ${a[1]})`]),
      fc.tuple(tie('node'), tie('node')).map(([a, b]): [string, string] => [`${a[0]}\\cdot ${b[0]}`, `{${b[1]}}\\times{${a[1]}}`]),
      tie('node').map(([a, b]): [string, string] => [`(${a})^2`, `(${b})(${b})`]),
    ),
  }));
  fc.assert(
    fc.property(node, ([a, b]) => {
      fc.pre(a.length < 400 && b.length < 400);
      expect([a, b, same(a, b), same(a, `1.001(${b})`)]).toEqual([a, b, true, false]);
    }),
    { numRuns: 500, seed: 11 },
  );
});

/** Texts that a parser, an evaluator or a pattern could choke on, at the longest that is read. */
const hostile = (
  [
    ...['{', '(', '[', '|', '-', '+', '^', '_', '!', '%', ',', ';', '$', '\\', '&', '<', '1', '9', 'x', 'a ', ' ', '°', '𝟙', 'İ'],
    ...[
      '1+',
      '1/',
      '1,',
      'x,',
      '9^',
      '9!',
      '1_',
      'x=',
      'x<',
      '\\frac',
      '\\frac{',
      '\\sqrt',
      '\\sqrt[',
      '\\text{',
      '\\boxed{',
      '\\begin{pmatrix}',
    ],
    ...[
      '\\pm ',
      '\\cup ',
      '\\log_',
      '\\sin ',
      '|x',
      '(1,',
      '{1,',
      '[1;',
      '\\{x,',
      '170!*',
      '(9^512)',
      '1e999',
      '5 cm ',
      'cm^',
      '1:',
      '.5',
      '1,000',
    ],
  ] as string[]
).map((unit) => unit.repeat(Math.floor(1000 / unit.length)));

test.each(
  [...hostile, `${'('.repeat(20)}1${')'.repeat(20)}`, `${'9^{'.repeat(15)}9${'}'.repeat(15)}`, '(1/7^3+1/11^3)*'.repeat(60) + '1'].map(
    (text) => [JSON.stringify(text.slice(0, 12)), text] as const,
  ),
)('hostile: %s', (_, text) => {
  const begin = performance.now();
  const answer = parseAnswer(text);
  if (answer) sameAnswer(answer, answer);
  if (answer) sameAnswer(answer, parseAnswer('x+1')!);
  expect(performance.now() - begin).toBeLessThan(1000);
  expect(parseAnswer(text + '1'.repeat(1001))).toBeUndefined(); // too long: not read at all
});
