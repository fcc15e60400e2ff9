// Random cases of the token-sized ops against the float64 oracle; a failure names its seed. FUSED_GRPO_SWEEP sets the number of cases.
import { test } from '@jest/globals';
import { VALUE_OPS, valueSweep } from '../support/value_sweep.js';

const COUNT = Number(process.env.FUSED_GRPO_SWEEP ?? 500);

test.each(VALUE_OPS)(`%s: ${COUNT} random cases`, (op) => valueSweep(op, COUNT), Math.max(120_000, 100 * COUNT));
