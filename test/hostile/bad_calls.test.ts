// 100,000 random bad calls of the functional ops, and 10,000 of the engine's, in processes of their own: a crash is a failure.
// FUSED_GRPO_SEED=n tries others; npm run test:asan runs them with sanitizers.
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const seed = Number(process.env.FUSED_GRPO_SEED ?? 1);

function badCalls(settings: object) {
  const given = JSON.stringify({ seed, ...settings });
  const child = spawnSync(process.execPath, [join(__dirname, 'bad-calls.cjs'), given], { encoding: 'utf8', timeout: 110_000 });
  expect({ given, status: child.status, signal: child.signal, told: child.stderr }).toEqual({ given, status: 0, signal: null, told: '' });
  return JSON.parse(child.stdout) as { calls: number; seen: Record<string, number> };
}

test('functional ops: a result, an error with a code, or what the caller threw', () => {
  const { calls, seen } = badCalls({ count: 100_000 });
  expect(Object.values(seen).reduce((a, b) => a + b)).toBe(calls);
  for (const outcome of ['OK', 'USER', 'ERR_INVALID_ARG', 'ERR_UNKNOWN_OPTION', 'ERR_NON_FINITE', 'ERR_INCOMPATIBLE_OPTIONS'])
    expect([outcome, seen[outcome]! > 0]).toEqual([outcome, true]);
});

test('engine: tensors that are disposed of meanwhile, arrays that are transferred while a call runs', () => {
  const { seen } = badCalls({ count: 10_000, engine: true });
  for (const outcome of ['OK', 'USER', 'ERR_INVALID_ARG', 'ERR_DISPOSED', 'ERR_NON_FINITE'])
    expect([outcome, seen[outcome]! > 0]).toEqual([outcome, true]);
});
