// The unfused libtorch twins of valueLoss and preferenceLoss: the same header on tensors, with autograd's derivative.
import { afterAll, expect, test } from '@jest/globals';
import { preferenceLoss, valueLoss } from '../../lib/index.js';
import { core, engine, substituteCore } from '../../lib/native.js';
import { Random } from '../support/random.js';

afterAll(() => substituteCore(undefined));

/** Runs an op on the CPU and hands back the native arguments that it was given. */
function seen<R>(op: 'valueLoss' | 'preferenceLoss', run: () => R): { result: R; args: object } {
  substituteCore(undefined);
  const real = core();
  let args: object = {};
  substituteCore({ ...real, [op]: (given: object) => ((args = given), real[op](given)) });
  const result = run();
  substituteCore(undefined);
  return { result, args };
}

function near(got: ArrayLike<number>, want: Float64Array): void {
  expect(got.length).toBe(want.length);
  want.forEach((v, i) => expect(Math.abs(got[i]! - v)).toBeLessThanOrEqual(1e-6 * Math.max(1e-3, Math.abs(v))));
}

test('100 random value losses', () => {
  for (let seed = 1; seed <= 100; ++seed) {
    const r = new Random(seed);
    const n = 4 * r.below(6);
    const floats = () => Float32Array.from({ length: n }, () => 3 * r.normal());
    const mask = Uint8Array.from({ length: n }, () => Number(r.chance(0.7)));
    const batch = { values: floats(), oldValues: floats(), returns: floats(), mask, completionLength: n === 0 ? 0 : 4 };
    const config = { ...(r.chance(0.7) ? { cliprangeValue: r.pick([0, 0.2, 2]) } : {}), ...(r.chance(0.5) ? { normalizer: 7 } : {}) };
    const { result, args } = seen('valueLoss', () => valueLoss(batch, config));
    const twin = engine().unfusedValueLoss(args);
    expect(Math.abs(result.loss - twin.loss)).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(twin.loss)));
    near(result.gradValues, twin.gradValues);
  }
});

test('100 random preference losses, near and far apart', () => {
  for (let seed = 1; seed <= 100; ++seed) {
    const r = new Random(seed);
    const n = r.below(9);
    const scale = r.pick([0.1, 1, 30, 1e4]);
    const floats = () => Float32Array.from({ length: n }, () => scale * r.normal());
    const batch = { chosenRewards: floats(), rejectedRewards: floats(), ...(r.chance(0.5) ? { margins: floats() } : {}) };
    const { result, args } = seen('preferenceLoss', () => preferenceLoss(batch, { centerRewardsCoefficient: r.pick([0, 0.01]) }));
    const twin = engine().unfusedPreferenceLoss(args);
    expect(Math.abs(result.loss - twin.loss)).toBeLessThanOrEqual(1e-12 * Math.max(1, Math.abs(twin.loss)));
    near(result.gradChosen, twin.gradChosen);
    near(result.gradRejected, twin.gradRejected);
  }
});
