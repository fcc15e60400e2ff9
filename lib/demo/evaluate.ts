import type { Policy } from '../engine/policy.js';
import type { Problem } from './arithmetic.js';

/** Greedy answers to the problems, and the share that is right. */
export async function accuracy(
  policy: Policy,
  problems: Problem[],
  signal?: AbortSignal,
): Promise<{ accuracy: number; answers: string[] }> {
  const { completions } = await policy.generate(
    problems.map((p) => p.prompt),
    { maxNewTokens: 5, temperature: 0, signal },
  );
  const answers = problems.map(() => '');
  for (const { promptIndex, text } of completions) answers[promptIndex] = text.trim();
  const right = answers.filter((answer, i) => answer === problems[i]!.answer).length;
  return { accuracy: right / problems.length, answers };
}
