// Scalar heads against numbers made with transformers (scripts/goldens/make_reward_goldens.py): scores, values, both losses' gradients.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { ScalarModel } from '../../lib/engine/scalar-model.js';
import { Training, type PairBatch, type ValueBatch } from '../../lib/engine/training.js';
import { families, goldenModels, largest, lists, loadGolden } from './support.js';
import { classifierFolder, headGolden as g, readTensors, renameTensors } from './scalar_support.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-head-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const ids = (list: number[]) => Int32Array.from(list);
const pairs = (): PairBatch => ({ ...lists(...g.pairs.flat()), margins: Float32Array.from(g.margins) });
const valueBatch = (old: number[]): ValueBatch => ({
  ...lists(...g.valueBatch.map(([p, c]) => [...p, ...c])),
  promptLengths: Int32Array.from(g.valueBatch, ([p]) => p.length),
  returns: Float32Array.from(g.returns),
  oldValues: Float32Array.from(old),
  mask: Uint8Array.from(g.mask),
});

/** Adam's first moment after one step from zero is a tenth of the gradient. */
async function gradients(training: Training): Promise<Map<string, Float32Array>> {
  await training.optimizerStep({ learningRate: 0, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 });
  const file = join(folder, 'optimizer.safetensors');
  await training.saveOptimizer(file);
  const moments = [...readTensors(file)].filter(([name]) => name.endsWith('.exp_avg'));
  return new Map(moments.map(([name, values]) => [name.slice(0, -'.exp_avg'.length), values.map((v) => 10 * v)]));
}

function expectGradients(got: Map<string, Float32Array>, want: Record<string, { norm: number; first: number[] }>): void {
  expect([...got.keys()].sort()).toEqual(Object.keys(want).sort());
  for (const [name, { norm, first }] of Object.entries(want)) {
    const values = got.get(name)!;
    const bound = 2e-5 * Math.max(norm, 0.01);
    expect([name, Math.abs(Math.hypot(...values) - norm) < bound]).toEqual([name, true]);
    first.forEach((x, i) => expect([name, Math.abs(values[i]! - x) < bound]).toEqual([name, true]));
  }
}

const near = (got: ArrayLike<number>, want: number[], bound = 2e-5) => {
  expect(got).toHaveLength(want.length);
  expect(largest(want.map((w, i) => Math.abs(got[i]! - w)))).toBeLessThan(bound);
};

describe.each(families)('%s', (family) => {
  const want = g.families[family]!;
  let model: ScalarModel;
  // Anew for every test: the optimizer's moments belong to the model.
  beforeEach(async () => (model = await ScalarModel.load(classifierFolder(join(folder, family), family), { dtype: 'float32' })));
  afterEach(() => model.dispose());

  test('scores, together and one sequence at a time', async () => {
    const all = g.pairs.flat().map(ids);
    const none = all.map(() => new Int32Array());
    const scores = want.scores.chosen.flatMap((c, i) => [c, want.scores.rejected[i]!]);
    near(await model.values(all, none, { positions: 'last' }), scores);
    near(await model.values(all, none, { positions: 'last', tokenBudget: 1 }), scores);
    // The same sequences as prompt and completion.
    const cut = all.map((s) => [s.slice(0, 1), s.slice(1)] as const);
    near(
      await model.values(
        cut.map(([p]) => p),
        cut.map(([, c]) => c),
        { positions: 'last' },
      ),
      scores,
    );
  });

  test('values of the states in which the tokens of completions are chosen', async () => {
    const [prompts, completions] = [g.valueBatch.map(([p]) => ids(p)), g.valueBatch.map(([, c]) => ids(c))];
    near(await model.values(prompts, completions, { positions: 'completion' }), want.values.values);
    near(await model.values(prompts, completions, { positions: 'completion', tokenBudget: 1 }), want.values.values);
  });

  test.each([100000, 1])('the preference loss and its gradients, micro-batches of %p tokens', async (microBatchTokens) => {
    const training = new Training(model);
    const options = { normalizer: g.pairNormalizer, centerRewardsCoefficient: g.centerRewardsCoefficient, microBatchTokens };
    const result = await training.accumulatePairs(pairs(), options);
    expect(Math.abs(result.loss - want.scores.loss)).toBeLessThan(1e-5 * Math.max(1, want.scores.loss));
    near(result.chosen, want.scores.chosen);
    near(result.rejected, want.scores.rejected);
    const margins = want.scores.chosen.map((c, i) => c - want.scores.rejected[i]!);
    expect(result.margin).toBeCloseTo(margins.reduce((a, b) => a + b) / margins.length, 4);
    expect(result.accuracy).toBe(margins.filter((m) => m > 0).length / margins.length);
    expectGradients(await gradients(training), want.scores.grads);
  });

  test.each([100000, 1])("the critic's loss and its gradients, micro-batches of %p tokens", async (microBatchTokens) => {
    const training = new Training(model);
    const options = { normalizer: g.valueNormalizer, cliprangeValue: g.cliprangeValue, microBatchTokens };
    const result = await training.accumulateValues(valueBatch(want.values.old), options);
    expect(Math.abs(result.loss - want.values.loss)).toBeLessThan(1e-5 * Math.max(1, want.values.loss));
    expect(result.clipFraction).toBeCloseTo(want.values.clipFraction, 6);
    near(result.values, want.values.values);
    const kept = g.returns.map((r, i) => [r, want.values.values[i]!] as const).filter((_, i) => g.mask[i]);
    const mean = (f: (r: number, v: number) => number) => kept.reduce((s, [r, v]) => s + f(r, v), 0) / kept.length;
    expect(result.meanReturn).toBeCloseTo(
      mean((r) => r),
      5,
    );
    expect(result.meanValue).toBeCloseTo(
      mean((_, v) => v),
      4,
    );
    expect(result.meanSquaredError).toBeCloseTo(
      mean((r, v) => (r - v) ** 2),
      3,
    );
    expect(result.returnVariance).toBeCloseTo(mean((r) => r * r) - mean((r) => r) ** 2, 5);
    expectGradients(await gradients(training), want.values.grads);
  });
});

describe('a new head', () => {
  const scoreOf = async (model: ScalarModel) => (await model.native.parameters().promise).find((p) => p.name === 'score.weight')!.data;

  test('is normal by its seed, has the deviation of config.json, and takes the place of the language head', async () => {
    const source = join(goldenModels, 'llama');
    const [a, b, c] = [
      await ScalarModel.load(source, { newHead: { seed: 1 } }),
      await ScalarModel.load(source, { newHead: { seed: 1 } }),
      await ScalarModel.load(source, { newHead: { seed: 2, std: 1 } }),
    ];
    const [head, again, other] = [await scoreOf(a), await scoreOf(b), await scoreOf(c)];
    expect(head).toEqual(again);
    expect(Math.hypot(...head) / Math.sqrt(head.length)).toBeGreaterThan(0.01);
    expect(Math.hypot(...head) / Math.sqrt(head.length)).toBeLessThan(0.04); // initializer_range 0.02
    expect(Math.hypot(...other) / Math.sqrt(other.length)).toBeGreaterThan(0.5);
    const names = (await a.native.parameters().promise).map((p) => p.name);
    expect(names).not.toContain('lm_head.weight');
    for (const model of [a, b, c]) model.dispose();
  });

  test.each(['llama', 'gpt2', 'smollm3'])('of a policy: a copy of %s as it is, saved and loaded again', async (family) => {
    const policy = await loadGolden(family);
    const model = await ScalarModel.from(policy, { seed: 5 });
    const sequences = g.pairs.flat().map(ids);
    const none = sequences.map(() => new Int32Array());
    const values = await model.values(sequences, none, { positions: 'last' });
    policy.dispose();
    const saved = join(folder, `saved-${family}`);
    await model.save(saved);
    model.dispose();
    const config = JSON.parse(readFileSync(join(saved, 'config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({ architectures: [g.families[family]!.architecture], id2label: { 0: 'LABEL_0' } });
    const again = await ScalarModel.load(saved);
    expect(await again.values(sequences, none, { positions: 'last' })).toEqual(values);
    again.dispose();
    await expect(Policy.load(saved)).rejects.toThrow(/it scores text and has no language-model head. Load it with RewardModel.load/);
  });

  test('a bare GPT2Model gets the names that transformers expects beside a head', async () => {
    const bare = join(folder, 'bare');
    cpSync(join(goldenModels, 'gpt2'), bare, { recursive: true });
    renameTensors(join(bare, 'model.safetensors'), (name) => name.replace(/^transformer\./, ''));
    const [a, b] = [
      await ScalarModel.load(bare, { newHead: { seed: 1 } }),
      await ScalarModel.load(join(goldenModels, 'gpt2'), { newHead: { seed: 1 } }),
    ];
    await a.save(join(folder, 'bare-saved'));
    const again = await ScalarModel.load(join(folder, 'bare-saved'));
    const names = async (model: ScalarModel) => (await model.native.parameters().promise).map((p) => p.name).sort();
    expect(await names(a)).toEqual(await names(b));
    const values = (model: ScalarModel) => model.values([ids([5, 6, 7])], [new Int32Array()], { positions: 'last' });
    expect(await values(again)).toEqual(await values(b));
    for (const model of [a, b, again]) model.dispose();
  });

  test('in bfloat16 the scores stay near', async () => {
    const dir = join(folder, 'llama');
    const [exact, half] = [await ScalarModel.load(dir, { dtype: 'float32' }), await ScalarModel.load(dir, { dtype: 'bfloat16' })];
    const sequences = g.pairs.flat().map(ids);
    const none = sequences.map(() => new Int32Array());
    const [a, b] = [await exact.values(sequences, none, { positions: 'last' }), await half.values(sequences, none, { positions: 'last' })];
    near(b, Array.from(a), 0.1);
    const { loss } = await new Training(half).accumulatePairs(pairs(), {
      normalizer: 5,
      centerRewardsCoefficient: 0.05,
      microBatchTokens: 64,
    });
    expect(Math.abs(loss - g.families['llama']!.scores.loss)).toBeLessThan(0.05);
    exact.dispose();
    half.dispose();
  });
});

describe('what is refused', () => {
  test('a language model where a reward model is needed; several labels; logits of a scalar head', async () => {
    await expect(ScalarModel.load(join(goldenModels, 'llama'))).rejects.toThrow(/is no reward model: config.json names LlamaForCausalLM/);
    const labels = classifierFolder(join(folder, 'labels'), 'llama', { id2label: { 0: 'a', 1: 'b', 2: 'c' } });
    await expect(ScalarModel.load(labels)).rejects.toThrow(/classifies into 3 labels; a reward model has one/);
    const shape = classifierFolder(join(folder, 'shape'), 'llama', {}, [1, 2, 3]);
    await expect(ScalarModel.load(shape)).rejects.toThrow(/score.weight.*shape/);
    const model = await ScalarModel.load(join(folder, 'llama'));
    await expect(model.native.logits(lists([5, 6])).promise).rejects.toThrow(/has a scalar head/);
    await expect(model.values([Int32Array.of(5)], [new Int32Array(200).fill(4)], { positions: 'last' })).rejects.toMatchObject({
      code: 'ERR_CONTEXT_LENGTH',
    });
    const [whole, more] = [64, 65].map((n) => new Int32Array(n).fill(4)); // the context: 64
    expect(await model.values([whole!], [new Int32Array()], { positions: 'last' })).toHaveLength(1);
    expect(await model.values([more!.slice(0, 5)], [more!.slice(5)], { positions: 'completion' })).toHaveLength(60);
    await expect(model.values([more!], [new Int32Array()], { positions: 'last' })).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    const infinite = { ...pairs(), margins: Float32Array.of(0, 0, Infinity, 0) };
    const options = { normalizer: 4, centerRewardsCoefficient: 0, microBatchTokens: 1 };
    await expect(new Training(model).accumulatePairs(infinite, options)).rejects.toThrow(/pair 2 of the step: its margin is not finite/);
    const bad = { ...valueBatch(g.families['llama']!.values.old), mask: undefined };
    bad.returns[10] = NaN; // the second sequence's second token
    await expect(
      new Training(model).accumulateValues(bad, { normalizer: 4, cliprangeValue: Infinity, microBatchTokens: 1 }),
    ).rejects.toThrow(/the return of completion 1, token 1 is not finite/);
    model.dispose();
  });

  test('values of a language model', async () => {
    const policy = await loadGolden('llama');
    const call = policy.native.values(lists([5, 6]), lists([]), { positions: 'last', tokenBudget: 100 });
    await expect(call.promise).rejects.toThrow(/no scalar head/);
    policy.dispose();
  });
});
