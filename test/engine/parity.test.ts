// Every family against numbers made with transformers (scripts/goldens/make_goldens.py).
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Policy } from '../../lib/engine/policy.js';
import { families, golden, largest, lists, loadGolden, sharedModel } from './support.js';

describe.each(families)('%s', (name) => {
  const g = golden(name);
  const prompt = Int32Array.from(g.ids.slice(0, g.promptLength));
  let policy: Policy;
  beforeAll(async () => (policy = await loadGolden(name)));
  afterAll(() => policy.dispose());

  test('logits', async () => {
    const z = await policy.native.logits(lists(g.ids)).promise;
    const v = policy.vocabSize;
    const row = (i: number) => z.subarray(i * v, (i + 1) * v);
    const error = (got: Float32Array, want: number[]) => largest(want.map((w, i) => Math.abs(got[i]! - w) / Math.max(1, Math.abs(w))));
    expect(error(row(0), g.logits.first)).toBeLessThanOrEqual(2e-5);
    expect(error(row(11), g.logits.mid)).toBeLessThanOrEqual(2e-5);
    expect(error(row(g.ids.length - 1), g.logits.last)).toBeLessThanOrEqual(2e-5);
  });

  test('log-probs and entropies', async () => {
    const { logps, entropies } = await policy.score([Int32Array.of(g.ids[0]!)], [Int32Array.from(g.ids.slice(1))], { entropy: true });
    expect(largest(g.logps.map((l, i) => Math.abs(l - logps[0]![i]!)))).toBeLessThanOrEqual(3e-5);
    expect(largest(g.entropies.map((h, i) => Math.abs(h - entropies[0]![i]!)))).toBeLessThanOrEqual(3e-5);
  });

  test('gradients', async () => {
    const { loss, gradients } = await policy.native.gradients(lists(g.ids)).promise;
    expect(Math.abs(loss - g.loss)).toBeLessThanOrEqual(1e-5);
    expect(Object.keys(gradients).sort()).toEqual(Object.keys(g.grads).sort());
    for (const [key, want] of Object.entries(g.grads)) {
      const got = gradients[key]!;
      const norm = Math.sqrt(got.reduce((sum, x) => sum + x * x, 0));
      expect(Math.abs(norm - want.norm)).toBeLessThanOrEqual(1e-5 * Math.max(want.norm, 0.01));
      want.first.forEach((x, i) => expect(Math.abs(got[i]! - x)).toBeLessThanOrEqual(1e-5 * Math.max(want.norm, 0.01)));
    }
  });

  test('greedy ids', async () => {
    const { completions } = await policy.generate([prompt], { temperature: 0, maxNewTokens: g.greedy.length, ignoreEos: true });
    expect(Array.from(completions[0]!.tokens)).toEqual(g.greedy);
  });

  test('a sampled log-prob is the scored one; decoding with a cache is the full forward', async () => {
    const prompts = [prompt, Int32Array.of(5), Int32Array.from(g.ids.slice(0, 20))];
    const { completions } = await policy.generate(prompts, {
      numGenerations: 5,
      maxNewTokens: 40,
      seed: 7,
      ignoreEos: true,
      temperature: 0.7,
    });
    const { logps } = await policy.score(prompts, completions, { temperature: 0.7 });
    const error = largest(completions.flatMap((c, i) => Array.from(c.logps, (l, t) => Math.abs(l - logps[i]![t]!))));
    expect(error).toBeLessThanOrEqual(5e-5);
  });

  test('a row is the same alone and beside longer ones (padding reaches nothing)', async () => {
    const [a, b, c] = [g.ids.slice(0, 9), g.ids, g.ids.slice(3, 17)];
    const together = await policy.native.logits(lists(a, b, c)).promise;
    const alone = await policy.native.logits(lists(a)).promise;
    expect(largest(alone.map((z, i) => Math.abs(z - together[i]!)))).toBeLessThanOrEqual(1e-5);
  });

  test('bfloat16 stays near float32', async () => {
    const half = await loadGolden(name, 'bfloat16');
    const { completions } = await half.generate([prompt], { numGenerations: 2, maxNewTokens: 8, seed: 1, ignoreEos: true });
    const { logps } = await half.score([prompt], completions);
    const exact = await policy.score([prompt], completions);
    half.dispose();
    for (const scores of [logps, exact.logps])
      completions.forEach((c, i) => c.logps.forEach((l, t) => expect(Math.abs(l - scores[i]![t]!)).toBeLessThan(0.5)));
  });
});

const stories = sharedModel('stories260k');
(stories ? describe : describe.skip)('stories260k (skipped: the trained weights are not beside the checkout)', () => {
  const GREEDY = '1 403 407 261 378 432 383 286 261 376 298 315 421 395 317 426 338 401 396 267 337 410 408 419'.split(' ').map(Number);
  const LOGPS = [
    ...[-0.2437434798, -0.0175127018, -0.0121103911, -0.0007238578, -0.031702852, -0.0684234983, -0.0159548843, -0.0007841519],
    ...[-0.4939786029, -0.4458665197, -0.0048910125, -0.0006584957, -0.0187888985, -0.0765997234, -0.070320996],
  ];
  let policy: Policy;
  beforeAll(async () => {
    const { Policy: P } = await import('../../lib/engine/policy.js');
    policy = await P.load(stories!);
  });
  afterAll(() => policy.dispose());

  test('the golden numbers of the trained model', async () => {
    const { completions } = await policy.generate([''], { temperature: 0, maxNewTokens: 60 });
    expect(Array.from(completions[0]!.tokens.slice(0, 23))).toEqual(GREEDY.slice(1));
    expect(
      'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.',
    ).toBe(completions[0]!.text.slice(0, 126));
    const z = await policy.native.logits(lists(GREEDY.slice(0, 16))).promise;
    [-6.222913599533916, 8.404341059138755, -6.223738553146172, -6.222543665000579].forEach((want, i) =>
      expect(Math.abs(z[i]! - want)).toBeLessThanOrEqual(2e-5 * Math.abs(want)),
    );
    const { logps } = await policy.score([Int32Array.of(1)], [Int32Array.from(GREEDY.slice(1, 16))]);
    expect(largest(LOGPS.map((l, i) => Math.abs(l - logps[0]![i]!)))).toBeLessThanOrEqual(2e-5);
  });

  test('200 greedy tokens decode to the same ids one by one and in a batch', async () => {
    const one = await policy.generate(['One day'], { temperature: 0, maxNewTokens: 200, ignoreEos: true });
    const many = await policy.generate(['Lily', 'One day', 'The dog'], {
      temperature: 0,
      maxNewTokens: 200,
      ignoreEos: true,
      numGenerations: 3,
    });
    expect(many.completions[4]!.tokens).toEqual(one.completions[0]!.tokens);
  });

  test.each([0.2, 0.6, 1, 1.7])('sampling at temperature %p: ratio 1', async (temperature) => {
    const prompts = ['Once upon a time', 'Lily', 'The big dog'];
    const { completions } = await policy.generate(prompts, {
      numGenerations: 8,
      maxNewTokens: 100,
      seed: 3,
      temperature,
      topP: 0.9,
      topK: 50,
    });
    const { logps } = await policy.score(prompts, completions, { temperature });
    const error = largest(completions.flatMap((c, i) => Array.from(c.logps, (l, t) => Math.abs(l - logps[i]![t]!))));
    expect(error).toBeLessThanOrEqual(5e-5);
  });
});
