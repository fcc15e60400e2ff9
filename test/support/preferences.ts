// Preferences with known utilities: strings of digits, each digit worth a fixed amount; the string of higher worth is preferred.
import { Random } from './random.js';

/** What each digit is worth. */
export const WORTH = [0.9, -1.3, 0.4, 1.7, -0.6, 0.1, -1.9, 1.2, -0.2, 0.7];
export const utility = (text: string): number => [...text].reduce((sum, digit) => sum + WORTH[Number(digit)]!, 0);

/** `n` pairs whose utilities differ by at least `gap`. */
export function preferences(n: number, seed: number, gap = 0.5): { chosen: string; rejected: string }[] {
  const random = new Random(seed);
  const text = () => Array.from({ length: 4 + random.below(6) }, () => random.below(10)).join('');
  const pair = (): { chosen: string; rejected: string } => {
    for (;;) {
      const [a, b] = [text(), text()];
      const by = utility(a) - utility(b);
      if (Math.abs(by) >= gap) return by > 0 ? { chosen: a, rejected: b } : { chosen: b, rejected: a };
    }
  };
  return Array.from({ length: n }, pair);
}
