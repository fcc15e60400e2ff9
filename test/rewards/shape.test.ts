// Rewards for format, language and length.
import { describe, expect, test } from '@jest/globals';
import { rewards } from '../../lib/index.js';
import { inputOf } from './support.js';

const { getLanguageConsistencyReward, getRepetitionPenaltyReward, getSoftOverlongPunishment, getThinkFormatReward } = rewards;
const { languageConsistencyReward, thinkAnswerFormatReward, thinkFormatReward } = rewards;
const tokens = (...lists: number[][]) =>
  inputOf(
    lists.map(() => ''),
    { completionTokens: lists.map((l) => Int32Array.from(l)) },
  );
const ofLengths = (...lengths: number[]) => tokens(...lengths.map((n) => Array.from({ length: n }, (_, i) => i)));

describe('format', () => {
  test.each<[string, number, number]>([
    ['<think>\nThis is my reasoning.\n</think>\nThis is my answer.', 1, 0],
    ['<think>a</think><answer>b</answer>', 1, 1],
    ['<think>a</think>\n<answer>\nb\n</answer>\n', 1, 1],
    ['<think></think>', 1, 0],
    ['<think>a</think>b<answer>c</answer>', 1, 0],
    ['<think>a</think><answer>b</answer>c', 1, 0],
    ['<think>a</think><answer>b</answer><answer>c</answer>', 1, 0],
    ['<think>a</think><answer>b', 1, 0],
    ['<think>a<think>b</think>c', 0, 0],
    ['<think>a</think>b</think>c', 0, 0],
    ['<think>a</think><think>b</think>', 0, 0],
    [' <think>a</think>b', 0, 0],
    ['so <think>a</think>b', 0, 0],
    ['a</think>b', 0, 0],
    ['<think>a', 0, 0],
    ['</think><think>', 0, 0],
    ['<answer><think>a</think></answer>', 0, 0],
    ['', 0, 0],
  ])('%j', async (text, think, answer) => {
    expect(await thinkFormatReward(inputOf([text]))).toEqual([think]);
    expect(await thinkAnswerFormatReward(inputOf([text]))).toEqual([answer]);
    const chat = { ...inputOf(['']), completions: [[{ role: 'assistant' as const, content: text }]] };
    expect(await thinkFormatReward(chat)).toEqual([think]);
  });

  test('a prompt that opens the reasoning', async () => {
    const input = inputOf(['a</think>b', '<think>a</think>b', 'a']);
    const opened = { ...input, prompts: ['Q <think>\n', 'Q <think>\n', 'Q <think>\n'] };
    expect(await thinkFormatReward(opened)).toEqual([1, 0, 0]);
    expect(await getThinkFormatReward({ openedByPrompt: false })(opened)).toEqual([0, 1, 0]);
    expect(await getThinkFormatReward({ openedByPrompt: true })(input)).toEqual([1, 0, 0]);
    expect(() => getThinkFormatReward({ openedByPrompt: 1 } as never)).toThrow(/true or false for openedByPrompt/);
  });

  test.each(['<think>', '</think>', '<', '<think', '<answer>'])('1e5 characters of %s', async (unit) => {
    const text = '<think>' + unit.repeat(1e5 / unit.length) + '</think>';
    const begin = performance.now();
    await thinkAnswerFormatReward(inputOf([text, text + '<answer>']));
    expect(performance.now() - begin).toBeLessThan(500);
  });
});

describe('languageConsistencyReward', () => {
  const of = async (text: string, options: Parameters<typeof getLanguageConsistencyReward>[0] = {}, prompt = 'p') =>
    (await getLanguageConsistencyReward(options)({ ...inputOf([text]), prompts: [prompt] }))[0];

  test.each<[string, string, number | null]>([
    ['en', 'We add the two numbers.', 1],
    ['en', 'We add 然后 numbers', 0.75],
    ['zh', '我们把两个数相加', 1],
    ['zh', '我们 then add', 1 / 3],
    ['ja', 'まず数を足す', 1],
    ['ja', 'まず数 first', 0.6],
    ['ru', 'Сложим два числа', 1],
    ['ru', 'Сложим two числа', 2 / 3],
    ['ko', '두 수를 더하면', 1],
    ['ar', 'نجمع العددين', 1],
    ['hi', 'हम संख्याएँ जोड़ते हैं', 1],
    ['fr', 'Nous ajoutons été', 1],
    ['en', '12 + 5 = 17', null],
    ['en', '', null],
    ['zh', '设 x 和 n, $\\frac{a}{b}$ 与 \\sqrt 相等 `let y`', 1],
    ['en', 'a I x', 1],
    ['en', 'Ꭰꭰ cherokee', 0.5],
  ])('%s: %s', async (language, text, share) => {
    const got = await of(text, { language });
    if (share === null) expect(got).toBeNull();
    else expect(got).toBeCloseTo(share, 12);
  });

  test('of the reasoning, unless all is asked for', async () => {
    expect(await of('<think>all English</think>答案是二')).toBe(1);
    expect(await of('<think>all English</think>答案是二', { part: 'all' })).toBe(0.5);
    expect(await of('all English</think>答案')).toBe(1);
    expect(await of('<think>all English 还没')).toBeCloseTo(2 / 3, 12);
  });

  test("the prompt's language", async () => {
    expect(await of('我们相加', { language: 'prompt' }, '一加二等于几？')).toBe(1);
    expect(await of('We add', { language: 'prompt' }, '一加二等于几？')).toBe(0);
    expect(await of('まず数を足す', { language: 'prompt' }, '一足す二は何ですか')).toBe(1);
    expect(await of('We add', { language: 'prompt' }, '1 + 2 = ')).toBe(1);
  });

  test('mistakes', () => {
    expect(() => getLanguageConsistencyReward({ language: 'klingon' })).toThrow(/'prompt' or one of af, am, ar/);
    expect(() => getLanguageConsistencyReward({ language: 'constructor' })).toThrow(/one of/);
    expect(() => getLanguageConsistencyReward({ part: 'some' } as never)).toThrow(/'reasoning' or 'all' for part/);
  });

  test.each(['a', 'ab ', '我', '$', '\\', '`', '<', '<a', '\\a', 'a$', 'é', '\u0301', '\ud800', '𝟙', '<think>'])(
    '1e5 characters of %j',
    async (unit) => {
      const begin = performance.now();
      await languageConsistencyReward(inputOf([unit.repeat(1e5 / unit.length)]));
      expect(performance.now() - begin).toBeLessThan(1000);
    },
  );
});

describe('getSoftOverlongPunishment', () => {
  test('equation 13 of DAPO', async () => {
    const reward = getSoftOverlongPunishment({ maxCompletionLength: 100, softPunishCache: 20 });
    expect(await reward(ofLengths(0, 80, 81, 90, 100, 101))).toEqual([0, 0, -0.05, -0.5, -1, -1]);
    expect(await getSoftOverlongPunishment({ maxCompletionLength: 10, softPunishCache: 0 })(ofLengths(10, 11))).toEqual([0, -1]);
    expect(await getSoftOverlongPunishment({ maxCompletionLength: 4, softPunishCache: 4 })(ofLengths(0, 1, 4))).toEqual([0, -0.25, -1]);
  });
  test.each([
    [{ maxCompletionLength: 10 }, /softPunishCache/],
    [{ maxCompletionLength: 10, softPunishCache: 11 }, /at most maxCompletionLength \(10\) for softPunishCache/],
    [{ maxCompletionLength: 10, softPunishCache: -1 }, /softPunishCache/],
    [{ maxCompletionLen: 10, softPunishCache: 1 }, /did you mean 'maxCompletionLength'/],
  ])('%j', (options, message) => expect(() => getSoftOverlongPunishment(options as never)).toThrow(message));
});

describe('getRepetitionPenaltyReward', () => {
  test('share of repeated n-grams', async () => {
    const two = getRepetitionPenaltyReward({ ngramSize: 2 });
    expect(await two(tokens([1, 2, 3, 4], [5, 5, 5, 5, 5], [1], [], [1, 2, 1, 2, 1]))).toEqual([0, -0.75, 0, 0, -0.5]);
    expect(await getRepetitionPenaltyReward({ ngramSize: 1, maxPenalty: -2 })(tokens([7, 7], [7, 8]))).toEqual([-1, 0]);
    expect(await getRepetitionPenaltyReward()(tokens([1, 2, 3, 1, 2, 3]))).toEqual([-0.25]);
    expect(await getRepetitionPenaltyReward({ maxPenalty: 0 })(tokens([1, 1, 1, 1]))).toEqual([0]);
  });
  test('against n-grams written out, on random tokens', async () => {
    let state = 1;
    const random = () => (state = (state * 48271) % 2147483647) % 4;
    for (const ngramSize of [1, 2, 3, 5, 8]) {
      const list = Array.from({ length: 300 }, random);
      const written = Array.from({ length: list.length - ngramSize + 1 }, (_, i) => list.slice(i, i + ngramSize).join());
      const [penalty] = (await getRepetitionPenaltyReward({ ngramSize })(tokens(list))) as number[];
      expect(penalty).toBeCloseTo(-(1 - new Set(written).size / written.length), 12);
    }
  });
  test('mistakes', () => {
    expect(() => getRepetitionPenaltyReward({ maxPenalty: 1 })).toThrow(/maxPenalty/);
    expect(() => getRepetitionPenaltyReward({ ngramSize: 0 })).toThrow(/ngramSize/);
  });
});
