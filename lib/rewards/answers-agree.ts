import { givesAnswer, readReference } from './answer.js';

/**
 * Whether a completion gives the reference answer, as accuracyReward judges it; null where the reference cannot be read.
 *
 *     answersAgree('1/2', 'So it is \\boxed{0.5}')  // true
 */
export function answersAgree(reference: unknown, completion: string, options: { requireMarked?: boolean } = {}): boolean | null {
  const read = readReference(reference);
  return read ? givesAnswer(read, completion, options.requireMarked) : null;
}
