// LoRA adapters: against peft's own numbers (scripts/goldens/make_adapter_goldens.py), and against a model that they are merged into.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LoraOptions } from '../../lib/engine/adapter.js';
import { Policy } from '../../lib/engine/policy.js';
import { Training, type TrainBatch } from '../../lib/engine/training.js';
import { families, golden, goldenModels, largest, lists, loadGolden } from './support.js';

const goldenAdapters = join(__dirname, '../golden/adapters');
interface AdapterGolden {
  ids: number[];
  logits: { first: number[]; last: number[] };
  loss: number;
  grads: Record<string, number[]>;
}
const adapterGolden = (name: string) => JSON.parse(readFileSync(join(goldenAdapters, name, 'golden.json'), 'utf8')) as AdapterGolden;

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'adapter-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const norm = (values: Iterable<number>) => Math.sqrt([...values].reduce((sum, x) => sum + x * x, 0));
const difference = (a: ArrayLike<number>, b: ArrayLike<number>) => largest(Array.from(a, (x, i) => Math.abs(x - b[i]!)));
const adamw = { learningRate: 0.05, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 1 };

function batchOf(ids: readonly number[]): TrainBatch {
  return {
    tokens: Int32Array.from([...ids, ...ids]),
    offsets: Int32Array.of(0, ids.length, 2 * ids.length),
    promptLengths: Int32Array.of(4, 4),
    advantages: Float32Array.of(1, 0.5),
  };
}

/** An adapter whose B is no longer zero. */
async function trained(name: string, options: LoraOptions, dtype: 'float32' | 'bfloat16' = 'float32', steps = 2): Promise<Policy> {
  const policy = await loadGolden(name, dtype);
  await policy.addAdapter(options);
  const training = new Training(policy);
  for (let i = 0; i < steps; ++i) {
    await training.accumulate(batchOf(golden(name).ids), { normalizer: 40 }, { microBatchTokens: 1000, fused: true });
    await training.optimizerStep(adamw);
  }
  return policy;
}

const logitsOf = async (policy: Policy, ids: readonly number[]) => policy.native.logits(lists(ids)).promise;

describe.each(['qwen3', 'gpt2', 'gemma3', 'llama-tied-bias'])("peft's adapter of %s", (name) => {
  const g = adapterGolden(name);
  let policy: Policy;
  beforeAll(async () => (policy = await Policy.load(join(goldenAdapters, name), { dtype: 'float32' })));
  afterAll(() => policy.dispose());

  test('logits', async () => {
    const z = await logitsOf(policy, g.ids);
    const v = policy.vocabSize;
    const error = (row: number, want: number[]) => largest(want.map((w, i) => Math.abs(z[row * v + i]! - w) / Math.max(1, Math.abs(w))));
    expect(error(0, g.logits.first)).toBeLessThanOrEqual(2e-5);
    expect(error(g.ids.length - 1, g.logits.last)).toBeLessThanOrEqual(2e-5);
    const base = await loadGolden(name);
    expect(difference(z, await logitsOf(base, g.ids))).toBeGreaterThan(0.1); // the adapter does something
    base.dispose();
  });

  test('loss and the gradients of A and B', async () => {
    const { loss, gradients } = await policy.native.gradients(lists(g.ids)).promise;
    expect(Math.abs(loss - g.loss)).toBeLessThanOrEqual(1e-5);
    expect(
      Object.keys(gradients)
        .filter((key) => key.includes('lora'))
        .sort(),
    ).toEqual(Object.keys(g.grads).sort());
    for (const [key, want] of Object.entries(g.grads)) {
      expect(gradients[key]!.length).toBe(want.length);
      expect(difference(gradients[key]!, want)).toBeLessThanOrEqual(1e-5 * Math.max(norm(want), 0.01));
    }
  });

  test('saved again it is the same adapter', async () => {
    const dir = join(folder, `again-${name}`);
    await policy.save(dir);
    const weights = (path: string) => readFileSync(join(path, 'adapter_model.safetensors'));
    expect(existsSync(join(dir, 'config.json'))).toBe(false);
    expect(JSON.parse(readFileSync(join(dir, 'adapter_config.json'), 'utf8'))).toMatchObject({
      peft_type: 'LORA',
      r: policy.adapter!.rank,
      base_model_name_or_path: join(goldenModels, name),
    });
    const again = await Policy.load(dir, { dtype: 'float32' });
    expect(again.adapter).toEqual(policy.adapter);
    expect(await logitsOf(again, g.ids)).toEqual(await logitsOf(policy, g.ids));
    again.dispose();
    expect(weights(dir).length).toBeGreaterThan(0);
  });
});

describe.each(families)('%s', (name) => {
  const { ids } = golden(name);
  const prompt = Int32Array.from(ids.slice(0, 7));

  test.each([
    ['rank 1', { rank: 1 }],
    ['rank 7, rslora', { rank: 7, alpha: 3, useRslora: true }],
  ])('merging changes nothing, and the chain rule gives A and B their gradients: %s', async (_name, options) => {
    const policy = await trained(name, options);
    const merged = await policy.clone();
    await merged.mergeAdapter();
    expect(difference(await logitsOf(policy, ids), await logitsOf(merged, ids))).toBeLessThanOrEqual(2e-5);
    expect(difference(await logitsOf(policy, ids), await logitsOf(await loadGolden(name), ids))).toBeGreaterThan(0.1);
    // W' = W + scale B A, so dA = scale B^T dW' and dB = scale dW' A^T, with dW' of the merged model.
    const { gradients } = await policy.native.gradients(lists(ids)).promise;
    const { gradients: full } = await merged.native.gradients(lists(ids)).promise;
    const scale = policy.adapter!.alpha / (policy.adapter!.useRslora ? Math.sqrt(options.rank) : options.rank);
    const leaves = new Map((await policy.native.adapter().promise).map((t) => [t.name, t]));
    for (const module of policy.adapter!.modules) {
      const [a, b] = ['A', 'B'].map((x) => leaves.get(`base_model.model.${module}.lora_${x}.weight`)!);
      const [r, inputs, outputs] = [a!.shape[0]!, a!.shape[1]!, b!.shape[0]!];
      const dw = full[`${module}.weight`] ?? full[`${module.replace('transformer.', '')}.weight`]!;
      const at = (o: number, i: number) => (name === 'gpt2' ? dw[i * outputs + o]! : dw[o * inputs + i]!);
      const da = new Float64Array(r * inputs);
      const db = new Float64Array(outputs * r);
      for (let k = 0; k < r; ++k)
        for (let o = 0; o < outputs; ++o)
          for (let i = 0; i < inputs; ++i) {
            da[k * inputs + i]! += scale * b!.data[o * r + k]! * at(o, i);
            db[o * r + k]! += scale * at(o, i) * a!.data[k * inputs + i]!;
          }
      expect(difference(gradients[a!.name]!, da)).toBeLessThanOrEqual(2e-5 * Math.max(norm(da), 0.01));
      expect(difference(gradients[b!.name]!, db)).toBeLessThanOrEqual(2e-5 * Math.max(norm(db), 0.01));
    }
    [policy, merged].forEach((p) => p.dispose());
  });

  test('a sampled log-prob is the scored one', async () => {
    const policy = await trained(name, { rank: 3 });
    const prompts = [prompt, Int32Array.of(5)];
    const { completions } = await policy.generate(prompts, { numGenerations: 5, maxNewTokens: 40, seed: 7, ignoreEos: true });
    const apart = ({ logps }: { logps: Float32Array[] }) => largest(completions.map((c, i) => difference(c.logps, logps[i]!)));
    expect(apart(await policy.score(prompts, completions))).toBeLessThanOrEqual(5e-5);
    expect(apart(await policy.score(prompts, completions, { adapter: false }))).toBeGreaterThan(0.1);
    policy.dispose();
  });

  test('the base is untouched, and adapter: false is it, whatever runs beside', async () => {
    const policy = await trained(name, { rank: 2 });
    const plain = await loadGolden(name);
    const [mine, theirs] = await Promise.all([policy, plain].map((p) => p.native.parameters().promise));
    expect(mine).toEqual(theirs);
    const completions = [Int32Array.from(ids.slice(7))];
    const [on, off, sampled, onAgain] = await Promise.all([
      policy.score([prompt], completions),
      policy.score([prompt], completions, { adapter: false }),
      policy.generate([prompt], { adapter: false, maxNewTokens: 9, seed: 3 }),
      policy.score([prompt], completions),
    ]);
    expect(off).toEqual(await plain.score([prompt], completions));
    expect(sampled).toEqual(await plain.generate([prompt], { maxNewTokens: 9, seed: 3 }));
    expect(onAgain).toEqual(on);
    expect(difference(on.logps[0]!, off.logps[0]!)).toBeGreaterThan(0.05);
    [policy, plain].forEach((p) => p.dispose());
  });
});

const SCRIPT = `
const [, api, adapters] = process.argv;
const { Policy } = require(api);
(async () => {
  const errors = {};
  for (const name of ['qwen3', 'gpt2', 'gemma3', 'llama-tied-bias'])
    for (const dtype of ['float32', 'bfloat16']) {
      const policy = await Policy.load(adapters + '/' + name, { dtype });
      const prompts = [Int32Array.of(5, 17, 40, 9), Int32Array.of(3)];
      const { completions } = await policy.generate(prompts, { numGenerations: 5, maxNewTokens: 33, seed: 2, ignoreEos: true });
      const { logps } = await policy.score(prompts, completions);
      errors[name + ' ' + dtype] = Math.max(...completions.flatMap((c, i) => Array.from(c.logps, (l, t) => Math.abs(l - logps[i][t]))));
    }
  console.log(JSON.stringify(errors));
})();`;

test('larger models, whose weights are not packed: a sampled log-prob is the scored one', () => {
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', SCRIPT, join(__dirname, '../../dist/cjs/index.js'), goldenAdapters], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '', FUSED_GRPO_PACKED_MB: '0' },
  });
  expect(stderr).toBe('');
  for (const [name, error] of Object.entries(JSON.parse(stdout) as Record<string, number>))
    expect([name, error < (name.endsWith('bfloat16') ? 0.25 : 5e-5)]).toEqual([name, true]);
});

describe('a new adapter', () => {
  test('changes no bit, comes from its seed, and is as wide as peft makes it', async () => {
    const make = async (options: LoraOptions) => {
      const policy = await loadGolden('llama');
      await policy.addAdapter(options);
      const leaves = await policy.native.adapter().promise;
      const z = await logitsOf(policy, [5, 9, 17]);
      policy.dispose();
      return { leaves, z };
    };
    const plain = await loadGolden('llama');
    const [a, b, c] = [await make({ rank: 4, seed: 1 }), await make({ rank: 4, seed: 1 }), await make({ rank: 4, seed: 2 })];
    expect(a.z).toEqual(await logitsOf(plain, [5, 9, 17]));
    expect(a.leaves).toEqual(b.leaves);
    expect(a.leaves).not.toEqual(c.leaves);
    // Which others have an adapter does not matter.
    const few = await make({ rank: 4, seed: 1, targetModules: ['v_proj'] });
    expect(few.leaves.map((t) => t.name).every((n) => n.includes('v_proj'))).toBe(true);
    expect(few.leaves[0]).toEqual(a.leaves.find((t) => t.name === few.leaves[0]!.name));
    for (const { name, shape, data } of a.leaves) {
      const bound = 1 / Math.sqrt(shape[1]!);
      if (name.includes('lora_B')) expect(data.every((x) => x === 0)).toBe(true);
      else {
        expect(largest(data.map(Math.abs))).toBeLessThanOrEqual(bound);
        expect(norm(data) / Math.sqrt(data.length) / (bound / Math.sqrt(3))).toBeGreaterThan(0.8); // uniform: std = bound / sqrt(3)
        expect(largest(data.map(Math.abs))).toBeGreaterThan(0.9 * bound);
      }
    }
    plain.dispose();
  });

  test('an optimizer as large as the adapter', async () => {
    const policy = await trained('llama', { rank: 3 });
    const leaves = await policy.native.adapter().promise;
    const numbers = leaves.reduce((n, t) => n + t.data.length, 0);
    expect(await new Training(policy).memory()).toMatchObject({ parameters: numbers, optimizerBytes: 8 * numbers }); // two moments; gradients are given back
    policy.dispose();
  });

  test('bfloat16 weights, float32 adapter', async () => {
    const policy = await trained('qwen3', { rank: 2 }, 'bfloat16', 4);
    const exact = await trained('qwen3', { rank: 2 }, 'float32', 4);
    expect((await new Training(policy).memory()).optimizerBytes).toBe((await new Training(exact).memory()).optimizerBytes);
    const prompt = Int32Array.of(5, 17, 40);
    const { completions } = await policy.generate([prompt], { numGenerations: 3, maxNewTokens: 12, seed: 1, ignoreEos: true });
    const { logps } = await policy.score([prompt], completions);
    completions.forEach((c, i) => c.logps.forEach((l, t) => expect(Math.abs(l - logps[i]![t]!)).toBeLessThan(0.5)));
    [policy, exact].forEach((p) => p.dispose());
  });

  test('merged and saved it is a whole model', async () => {
    const policy = await trained('gpt2', { rank: 2 });
    const before = await logitsOf(policy, [5, 9, 17]);
    await policy.mergeAdapter();
    await policy.mergeAdapter(); // nothing left to do
    const dir = join(folder, 'merged');
    await policy.save(dir);
    const again = await Policy.load(dir);
    expect(again.adapter).toBeUndefined();
    expect(difference(await logitsOf(again, [5, 9, 17]), before)).toBeLessThanOrEqual(2e-5);
    await expect(policy.addAdapter({ rank: 2 })).rejects.toThrow(/no longer those of .*gpt2: save the policy/);
    [policy, again].forEach((p) => p.dispose());
  });
});

describe('errors', () => {
  test('options of addAdapter', async () => {
    const policy = await loadGolden('gpt2');
    const refused = (options: object) => expect(policy.addAdapter(options as LoraOptions)).rejects;
    await refused({ rank: 0 }).toThrow(/an integer from 1 to 65536 for rank/);
    await refused({ rank: 2, targetModules: ['q_proj'] }).toThrow(
      /'all-linear' or some of c_attn, c_proj, c_fc for targetModules .* "q_proj"/,
    );
    await refused({ rank: 2, targetModules: [] }).toThrow(/an array of module names/);
    await refused({ rank: 2, alpha: 0 }).toThrow(/greater than 0 for alpha/);
    await refused({ rank: 2, fromLayer: 2 }).toThrow(/a layer from 0 to 1 for fromLayer/);
    await refused({ rank: 2, dropout: 0.1 }).toThrow(/Unknown option 'dropout'/);
    await policy.addAdapter({ rank: 2, fromLayer: 1 });
    expect(policy.adapter!.modules.every((m) => m.startsWith('transformer.h.1.'))).toBe(true);
    await refused({ rank: 2 }).toThrow(/has an adapter already/);
    policy.dispose();
  });

  test('adapter folders', async () => {
    const source = join(goldenAdapters, 'qwen3');
    const config = JSON.parse(readFileSync(join(source, 'adapter_config.json'), 'utf8')) as object;
    const base = join(goldenModels, 'qwen3');
    let made = 0;
    const load = async (changes: object, weights = true, options = {}) => {
      const dir = mkdtempSync(join(folder, `bad-${++made}-`));
      writeFileSync(join(dir, 'adapter_config.json'), JSON.stringify({ ...config, ...changes }));
      if (weights) writeFileSync(join(dir, 'adapter_model.safetensors'), readFileSync(join(source, 'adapter_model.safetensors')));
      (await Policy.load(dir, options)).dispose();
    };
    await load({ base_model_name_or_path: base });
    await load({ base_model_name_or_path: '/nowhere/base' }, true, { base });
    const code = { code: 'ERR_MODEL' };
    await expect(load({ base_model_name_or_path: '/nowhere/base/model' })).rejects.toMatchObject(code);
    await expect(load({ base_model_name_or_path: '/nowhere/base/model' })).rejects.toThrow(
      /"\/nowhere\/base\/model" is no folder here: give its folder as `base`/,
    );
    await expect(load({}, true, { base: join(folder, 'none') })).rejects.toThrow(/base: there is no folder/);
    await expect(load({ use_dora: true }, true, { base })).rejects.toThrow(/use_dora = true is not implemented/);
    await expect(load({ modules_to_save: ['lm_head'] }, true, { base })).rejects.toThrow(/modules_to_save/);
    await expect(load({ rank_pattern: { q_proj: 2 } }, true, { base })).rejects.toThrow(/rank_pattern/);
    await expect(load({ peft_type: 'IA3' }, true, { base })).rejects.toThrow(/peft_type = "IA3"/);
    await expect(load({ r: 4 }, true, { base })).rejects.toThrow(/lora_A\.weight' has shape \[3, 32\]/);
    await expect(load({}, true, { base: join(goldenModels, 'gpt2') })).rejects.toThrow(/a module that the base model does not have/);
    await expect(load({}, false, { base })).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(load({}, true, { base: source })).rejects.toThrow(/is an adapter itself/);
    await expect(Policy.load(base, { base })).rejects.toThrow(/is no adapter/);
  });
});
