// Against what TRL's own reward functions give (scripts/goldens/make_reward_function_goldens.py). A case that `differs` says why we decide
// otherwise: there our value must not be theirs.
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { rewards, type RewardFn } from '../../lib/index.js';
import { inputOf } from './support.js';

interface Case {
  completion: string;
  solution?: string;
  value: number | null;
  differs?: string;
}
interface Goldens {
  accuracy: Case[];
  format: Case[];
  reasoning: Case[];
  lengths: number[];
  overlong: { max: number; cache: number; values: number[] }[];
  cosine: { right: number[]; wrong: number[] };
  tokens: number[][];
  repetition: { size: number; penalty: number; values: number[] }[];
}
const golden = JSON.parse(readFileSync(join(__dirname, '../golden/peers/reward_functions.json'), 'utf8')) as Goldens;

async function check(fn: RewardFn, { completion, solution, value, differs }: Case): Promise<void> {
  const [ours] = Array.from(await fn(inputOf([completion], { solution: [solution ?? '$3$'] })));
  if (differs) expect(ours).not.toBe(value);
  else expect(ours).toBe(value);
}
const title = (c: Case) => [`${c.solution ?? ''} ${JSON.stringify(c.completion)}${c.differs ? ` differs: ${c.differs}` : ''}`, c] as const;

test.each(golden.accuracy.map(title))('accuracy %s', (_, c) => check(rewards.accuracyReward, c));
test.each(golden.format.map(title))('format %s', (_, c) => check(rewards.thinkFormatReward, c));
test.each(golden.reasoning.map(title))('reasoning %s', (_, c) => check(rewards.reasoningAccuracyReward, c));

const close = async (fn: RewardFn, input: Parameters<RewardFn>[0], values: number[]) => {
  const ours = Array.from(await fn(input)) as number[];
  expect(ours.length).toBe(values.length);
  ours.forEach((v, i) => expect(Math.abs(v - values[i]!)).toBeLessThan(1e-12));
};
const tokensOf = (lists: number[][], text = '') =>
  inputOf(
    lists.map(() => text),
    { completionTokens: lists.map((l) => Int32Array.from(l)), solution: lists.map(() => '1') },
  );
const ofLengths = (text = '') =>
  tokensOf(
    golden.lengths.map((n) => Array.from({ length: n }, () => 1)),
    text,
  );

test.each(golden.overlong)('soft overlong punishment: $max, $cache', ({ max, cache, values }) =>
  close(rewards.getSoftOverlongPunishment({ maxCompletionLength: max, softPunishCache: cache }), ofLengths(), values),
);
test('cosine', async () => {
  await close(rewards.getCosineScaledReward({ maxLen: 100 }), ofLengths('\\boxed{1}'), golden.cosine.right);
  await close(rewards.getCosineScaledReward({ maxLen: 100 }), ofLengths('\\boxed{2}'), golden.cosine.wrong);
});
test.each(golden.repetition)('repetition: $size, $penalty', ({ size, penalty, values }) =>
  close(rewards.getRepetitionPenaltyReward({ ngramSize: size, maxPenalty: penalty }), tokensOf(golden.tokens), values),
);
