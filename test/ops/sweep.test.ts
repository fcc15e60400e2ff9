// Random cases against the float64 oracle, at every instruction set this machine has. A failure names its seed.
import { afterAll, describe, expect, test } from '@jest/globals';
import { core } from '../../lib/native.js';
import { sweep } from '../support/sweep.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 250);
const original = core().simd();
const LEVELS = ['portable', 'avx2', 'avx512', 'neon'].filter((name) => core().useSimd(name));
afterAll(() => void core().useSimd(original));

describe.each(LEVELS)('%s', (level) => {
  test(`${COUNT} random cases`, () => {
    core().useSimd(level);
    sweep(level, 1, COUNT);
    expect(core().simd()).toBe(level);
  });
});
