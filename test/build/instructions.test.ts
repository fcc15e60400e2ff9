// What a logit costs in instructions: a bound that a noisy machine cannot hide behind.
import { expect, test } from '@jest/globals';
import { evaluate } from './scripts.js';

interface Count {
  name: string;
  wanted: number;
  now: number;
  ok: boolean;
}

const reason = evaluate('instructions.mjs', 'm.unavailable()') as string | null;
const counted = reason ? test.skip : test;

counted(
  `instructions per logit${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    const counts = evaluate('instructions.mjs', 'm.check()') as Count[];
    expect(counts).toHaveLength(8);
    for (const { name, wanted, now, ok } of counts) {
      expect([name, now > 1, now, wanted, ok]).toEqual([name, true, now, wanted, true]);
      // A sweep that does almost nothing would be as suspicious: the bound has to be renewed with what made it cheaper.
      expect([name, now > wanted * 0.8]).toEqual([name, true]);
    }
  },
  300000,
);
