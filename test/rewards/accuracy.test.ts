import { describe, expect, test } from '@jest/globals';
import { rewards } from '../../lib/index.js';
import type { RewardInput } from '../../lib/trainer/reward-types.js';
import { inputOf } from './support.js';

const r = String.raw;
const { accuracyReward, answersAgree, getAccuracyReward, getCosineScaledReward, reasoningAccuracyReward } = rewards;

describe('which answer of a completion counts', () => {
  const right: [string, unknown, string][] = [
    ['boxed', r`\frac{1}{3}`, r`My answer is \boxed{\frac{1}{3}}`],
    ['the last box', '3', r`First \boxed{2}, but no: \boxed{3}.`],
    ['nested braces', r`\frac{1}{2}`, r`So \boxed{\frac{1}{2}}.`],
    ['a box in a box', '5', r`\boxed{\boxed{5}}`],
    ['a box after an open brace', '5', r`The set {1, 2 has \boxed{5}`],
    ['an answer tag', '42', '<think>41?</think><answer> 42 </answer>'],
    ['a box in an answer tag', '42', r`<answer>\boxed{42}</answer>`],
    ['hashes', '72', 'Natalia sold 48/2 = 24 clips.\n#### 72'],
    ['announced', '12', 'We had 3 boxes of 4. The answer is 12 eggs, which is enough for 5 cakes.'],
    ['announced within words', '12', 'The answer is the number 12, not 13'],
    ['announced as a formula', r`\frac12`, r`The answer is $\frac{1}{2}$ because $x>0$`],
    ['announced in bold', '12', '**Answer:** 12'],
    ['announced with a sentence after it', '0.5', 'The final answer is 1/2. I am sure.'],
    ['the last announcement', '7', 'The answer is 6. Wait. The answer is 7.'],
    ['the last line', '85', '85'],
    ['the last number', '1,234', 'It takes 12 days, so in all it is 1234 pages.'],
    ['the last number, negative', '-3', 'x must be -3'],
    ['not a subtraction', '3', 'we get 5-2=3'],
    ['a fraction at the end', '3/4', 'so three quarters, 3/4'],
    ['percent at the end', '50%', 'that makes 50%.'],
    ['the last formula', r`\frac{1}{2}`, r`Therefore $x = \frac{1}{2}$.`],
    ['a formula in brackets', r`(1,2)`, r`Therefore \[(x,y) = (1, 2)\]`],
    ['a number after a formula', '12', 'As $x$ is the count, there are 12 of them'],
    ['prices are no formula', '6', 'It costs $5 and then $6'],
    ['units', r`5\text{ cm}`, r`\boxed{5}`],
    ['a worked solution as the reference', r`We see that $x=2$, so \boxed{2}.`, '2'],
    ["GSM8K's answer column", '48/2 = 24\n#### 72', r`\boxed{72}`],
    ['numbers as references', 85, '85'],
    ['booleans as references', true, 'True.'],
    ['a letter', 'B', r`\boxed{B}`],
    ['a letter in brackets', 'B', r`\boxed{(B)}`],
    ['a letter with its text', 'B', r`\boxed{\textbf{(B) } 12}`],
    ['a letter with its text, announced', '(B)', 'The answer is (B) Paris, of course'],
    ['a bare letter, announced', 'B', 'The correct answer is B because I say so'],
    ['a letter on the last line', 'C', 'I compared all of them.\nC. Rome'],
    ['text', 'Paris', r`\boxed{\text{paris}}`],
    ['text, announced', 'New York', 'Answer: new york.'],
    ['text alone', 'Yes', 'yes'],
    ['quotes', "it's", '<answer>It’s</answer>'],
    ['a reference of words in LaTeX', r`\text{Sunday}`, r`\boxed{Sunday}`],
    ['a reference between dollars', '$10$', r`\boxed{10}`],
  ];
  test.each(right)('%s', (_, reference, completion) => expect(answersAgree(reference, completion)).toBe(true));

  const wrong: [string, unknown, string][] = [
    ['another box', '2', r`First \boxed{2}, but no: \boxed{3}.`],
    ['an empty box', '2', r`It is 2. \boxed{}`],
    ['a box goes before the last number', '2', r`\boxed{3} or 2`],
    ['a list of guesses', '2', r`\boxed{1, 2, 3}`],
    ['the reference among others', '2', 'The answer is 1, 2 or 3'],
    ['a tag goes before the last number', '2', '<answer>3</answer> 2'],
    ['nothing', '2', ''],
    ['no number', '2', 'I do not know.'],
    ['another letter', 'B', r`\boxed{C}`],
    ['an article is no choice', 'A', 'A good question'],
    ['the letters of a word', 'B', r`\boxed{Both}`],
    ['every letter', 'B', r`\boxed{A B C D}`],
    ['other text', 'Paris', r`\boxed{Rome}`],
    ['text within text', 'Paris', r`\boxed{Paris or Rome}`],
    ['text that is no number', '5', r`\boxed{five}`],
    ['a letter where a number is wanted', '5', r`\boxed{x}`],
  ];
  test.each(wrong)('wrong: %s', (_, reference, completion) => expect(answersAgree(reference, completion)).toBe(false));

  test.each([undefined, null, '', '  ', r`\boxed{}`, r`\int_0^1 x dx`, {}, [], 'x'.repeat(2000), '$$'])('no reference: %j', (reference) =>
    expect(answersAgree(reference, '1')).toBeNull(),
  );

  test('requireMarked: only a box, a tag or hashes', () => {
    const marked = (text: string) => answersAgree('5', text, { requireMarked: true });
    expect([r`\boxed{5}`, '<answer>5</answer>', '#### 5', '5', 'The answer is 5', '$5$'].map(marked)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});

describe('accuracyReward', () => {
  test('1, 0 and null; the column solution goes before answer', async () => {
    const completions = [r`\boxed{1}`, r`\boxed{2}`, '3'];
    expect(await accuracyReward(inputOf(completions, { answer: ['1', '1', ''] }))).toEqual([1, 0, null]);
    expect(await accuracyReward(inputOf(completions, { answer: ['9', '9', '9'], solution: ['1', '2', '3'] }))).toEqual([1, 1, 1]);
    expect(await getAccuracyReward({ column: 'truth' })(inputOf(completions, { truth: ['1', '2', '4'] }))).toEqual([1, 1, 0]);
    expect(accuracyReward.name).toBe('accuracyReward');
  });

  test('chat completions', async () => {
    const input = inputOf(['', ''], { solution: ['4', '5'] });
    const chat = ['It is 4', 'It is 4'].map((content) => [{ role: 'assistant' as const, content }]);
    expect(await accuracyReward({ ...input, completions: chat })).toEqual([1, 0]);
  });

  test('mistakes are told', () => {
    expect(() => accuracyReward(inputOf(['1'], { truth: ['1'] }))).toThrow(
      "accuracyReward needs a column 'solution' or 'answer' in the data set; it has 'truth'",
    );
    expect(() => accuracyReward(inputOf(['1']))).toThrow('it has none beside the prompt');
    expect(() => accuracyReward(inputOf(['1']))).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
    expect(() => getAccuracyReward({ colum: 'x' } as never)).toThrow(/Unknown option 'colum'.*did you mean 'column'/);
    expect(() => getAccuracyReward({ column: 3 } as never)).toThrow(/a column name for column/);
    expect(() => getAccuracyReward({ requireMarked: 'yes' } as never)).toThrow(/true or false for requireMarked/);
  });
});

test('reasoningAccuracyReward looks behind the reasoning only', async () => {
  const box = r`\boxed{3}`;
  const completions = [`<think>a</think> ${box}`, `<think>${box}</think> \\boxed{4}`, `<think>${box}`, `</think>${box}</think>`, box];
  const input = inputOf(completions, { solution: completions.map(() => '3') });
  expect(await reasoningAccuracyReward(input)).toEqual([1, 0, 0, 0, 0]);
  const custom = rewards.getReasoningAccuracyReward({ reasoningDelimiters: ['[/T]', '</think>'] });
  expect(await custom(inputOf([`x[/T]${box}`, `y</think>${box}`, `${box}[/T]</think>`], { solution: ['3', '3', '3'] }))).toEqual([1, 1, 0]);
  expect(await reasoningAccuracyReward(inputOf(['</think>1', '1'], { solution: ['', ''] }))).toEqual([null, 0]); // as TRL
  expect(() => rewards.getReasoningAccuracyReward({ reasoningDelimiters: [] })).toThrow(/an array of texts/);
});

test('getCosineScaledReward: shorter is better when right, worse when wrong', async () => {
  const input = (lengths: number[], right: boolean): RewardInput =>
    inputOf(
      lengths.map(() => (right ? '1' : '2')),
      { solution: lengths.map(() => '1'), completionTokens: lengths.map((n) => new Int32Array(n)) },
    );
  const at = async (lengths: number[], right: boolean) =>
    Array.from((await getCosineScaledReward({ maxLen: 100 })(input(lengths, right))) as number[], (v) => Math.round(v * 1e6) / 1e6);
  expect(await at([0, 50, 100, 300], true)).toEqual([1, 0.75, 0.5, 0.5]);
  expect(await at([0, 50, 100, 300], false)).toEqual([-1, -0.75, -0.5, -0.5]);
  expect(await at([25], true)).toEqual([0.926777]); // 0.5 + 0.25 (1 + cos(pi / 4))
  const own = getCosineScaledReward({ maxLen: 10, minValueWrong: -10, maxValueWrong: 0, minValueCorrect: 2, maxValueCorrect: 2 });
  expect(await own(input([0], false))).toEqual([-10]);
  expect(await own(inputOf(['1'], { solution: [''] }))).toEqual([null]);
  expect(() => getCosineScaledReward({} as never)).toThrow(/maxLen/);
  expect(() => getCosineScaledReward({ maxLen: 0 })).toThrow(/maxLen/);
});

describe('hostile completions of 1e5 characters are judged within a second', () => {
  const units = ['{', '}', r`\boxed{`, r`\boxed`, '\\', '$', '$$', r`\(`, r`\[`, '<answer>', '</answer>', '<think>', '</think>', '####', 'answer', 'answer is ',
    'answer:\n', '1', '1,', ',', '-', '1-', '.', '1/', '**', '`', ' ', '\n', '\t', 'İ', '(A) ', 'A', '%', r`\text{`, '𝟙', '\ud800', '[', '^']; // prettier-ignore
  const references = ['42', r`\frac{1}{2}`, '(1,2)', 'B', 'Paris', r`\{1,2\}`, 'x^2+1'];
  test.each(units)('%j', async (unit) => {
    const text = unit.repeat(Math.floor(1e5 / unit.length));
    const completions = references.flatMap(() => [text, text + '42', `answer is ${text}`, `\\boxed{${text}}`, `<answer>${text}</answer>`]);
    const solution = references.flatMap((s) => Array.from({ length: 5 }, () => s));
    const begin = performance.now();
    await accuracyReward(inputOf(completions, { solution }));
    await reasoningAccuracyReward(inputOf(completions, { solution }));
    await accuracyReward(inputOf(['1'], { solution: [text] }));
    expect((performance.now() - begin) / completions.length).toBeLessThan(1000);
  });
});
