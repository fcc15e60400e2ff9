// The demo's task: sums of two numbers below 100, checked by computing them.
import { permutation } from '../random.js';
import type { AnyRewardInput } from '../trainer/reward-types.js';

export interface Problem {
  /** "47+38=": what the model is given. Also the data set's `prompt` column. */
  prompt: string;
  /** "85" */
  answer: string;
  [column: string]: unknown;
}

const HELD_OUT = 1000;

/** Every a+b of numbers below 100, in a fixed shuffled order. */
function allProblems(): Problem[] {
  const problems = Array.from({ length: 10_000 }, (_, i) => [Math.floor(i / 100), i % 100] as const);
  return Array.from(permutation(problems.length, 20261122), (i) => {
    const [a, b] = problems[i]!;
    return { prompt: `${a}+${b}=`, answer: String(a + b) };
  });
}

/** Problems for training, and others that neither the bundled model's making nor the demo's training ever sees. */
export function arithmeticProblems(): { train: Problem[]; heldOut: Problem[] } {
  const all = allProblems();
  return { train: all.slice(HELD_OUT), heldOut: all.slice(0, HELD_OUT) };
}

/** 1 for the right number and nothing else, 0 otherwise. */
export const correctAnswer = ({ completions, answer }: AnyRewardInput): number[] =>
  completions.map((text, i) => ((text as string).trim() === (answer as string[])[i] ? 1 : 0));
