// The demo's task: two-digit sums and differences, checked by computing them.
import { permutation } from '../random.js';
import type { RewardFn } from '../trainer/rewards.js';

export interface Problem {
  /** "47+38=": what the model is given. Also the data set's `prompt` column. */
  prompt: string;
  /** "85" */
  answer: string;
  [column: string]: unknown;
}

const HELD_OUT = 1500;

/** Every a+b and a-b (a >= b) of numbers below 100, in a fixed shuffled order. */
function allProblems(): Problem[] {
  const problems: Problem[] = [];
  for (let a = 0; a < 100; ++a)
    for (let b = 0; b < 100; ++b) {
      problems.push({ prompt: `${a}+${b}=`, answer: String(a + b) });
      if (a >= b) problems.push({ prompt: `${a}-${b}=`, answer: String(a - b) });
    }
  return Array.from(permutation(problems.length, 20261122), (i) => problems[i]!);
}

/** Problems for training, and others that neither the bundled model's making nor the demo's training ever sees. */
export function arithmeticProblems(): { train: Problem[]; heldOut: Problem[] } {
  const all = allProblems();
  return { train: all.slice(HELD_OUT), heldOut: all.slice(0, HELD_OUT) };
}

/** 1 for the right number and nothing else, 0 otherwise. */
export const correctAnswer: RewardFn = ({ completions, answer }) =>
  completions.map((text, i) => ((text as string).trim() === (answer as string[])[i] ? 1 : 0));
