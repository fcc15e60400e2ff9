// Training some of the parameters, and recomputing layers in the backward pass: the same bits as training everything and keeping everything.
import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { demoModel } from '../../lib/demo/lesson.js';
import { parametersAbove, selectParameters } from '../../lib/engine/adapter.js';
import { settle } from '../../lib/engine/call.js';
import type { Policy } from '../../lib/engine/policy.js';
import { ScalarModel } from '../../lib/engine/scalar-model.js';
import { Training, type TrainBatch } from '../../lib/engine/training.js';
import { families, golden, goldenModels, lists, loadGolden } from './support.js';

// No clipping: the norm would couple the parameters.
const adamw = { learningRate: 0.01, weightDecay: 0.1, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 };

function batch(): TrainBatch {
  const { ids } = golden('llama');
  const lengths = [24, 24, 13, 20];
  return {
    // Two share a prompt of 4 tokens.
    tokens: Int32Array.from(lengths.flatMap((n, i) => (i === 1 ? [...ids.slice(0, 4), ...ids.slice(0, 20)] : ids.slice(0, n)))),
    offsets: Int32Array.from([0, 24, 48, 61, 81]),
    promptLengths: Int32Array.of(4, 4, 1, 19),
    advantages: Float32Array.of(1, -0.5, 0.3, 2),
  };
}

interface Options {
  names?: string[];
  lora?: boolean;
  gradientCheckpointing?: boolean;
  fused?: boolean;
  dtype?: 'float32' | 'bfloat16';
  microBatchTokens?: number;
  steps?: number;
}

type Weights = Map<string, Float32Array>;
async function weightsOf(policy: Policy): Promise<Weights> {
  const tensors = [...(await policy.native.parameters().promise), ...(await policy.native.adapter().promise)];
  return new Map(tensors.map((t) => [t.name, t.data]));
}

/** Optimizer steps; the weights before and after. */
async function train(
  name: string,
  o: Options = {},
): Promise<{ before: Weights; after: Weights; optimizerBytes: number; bytesPerRow: number }> {
  const policy = await loadGolden(name, o.dtype);
  await settle(() => policy.native.chooseTrained({ names: o.names ?? [], recompute: o.gradientCheckpointing ?? false }));
  if (o.lora) await policy.addAdapter({ rank: 3, seed: 5 });
  const before = await weightsOf(policy);
  const training = new Training(policy);
  const { fused = true, microBatchTokens = 60, steps = 2 } = o;
  for (let i = 0; i < steps; ++i) {
    await training.accumulate(batch(), { normalizer: 50 }, { microBatchTokens, fused });
    await training.optimizerStep(adamw);
  }
  const { optimizerBytes, bytesPerRow } = await training.memory();
  const after = await weightsOf(policy);
  policy.dispose();
  return { before, after, optimizerBytes, bytesPerRow };
}

const same = (a: Float32Array, b: Float32Array) => Buffer.from(a.buffer).equals(Buffer.from(b.buffer));
const changed = (run: { before: Weights; after: Weights }) =>
  [...run.after.keys()].filter((n) => !same(run.before.get(n)!, run.after.get(n)!));

/** What is trained in each case, by pattern. */
const CASES: [string, string, string[]][] = [
  ['llama', 'the last layer', ['model.layers.1.*']],
  ['llama', 'k of the joint q, k, v', ['model.layers.0.self_attn.k_proj.*']],
  ['llama', 'the head alone', ['lm_head.weight']],
  ['llama', 'everything but the head', ['model.*']],
  ['llama', 'the final norm alone', ['model.norm.weight']],
  ['qwen3', 'the norms of the heads alone', ['*.k_norm.weight']],
  ['qwen2', 'a bias of the joint product', ['model.layers.1.self_attn.v_proj.bias']],
  ['gpt2', 'a bias of a norm', ['transformer.h.1.ln_2.bias']],
  ['gpt2', 'positions', ['*wpe.weight']],
  ['gemma3', 'the tied embedding', ['model.embed_tokens.weight']],
  ['gemma3', 'norms behind attention', ['*post_attention_layernorm.weight']],
];

describe('only some parameters are trained', () => {
  test.each(CASES)('%s: %s', async (name, _what, patterns) => {
    const full = await train(name, { steps: 1 });
    const names = selectParameters(patterns, [...full.before.keys()]);
    expect(names.length).toBeGreaterThan(0);
    for (const fused of [true, false]) {
      const part = await train(name, { names, fused, steps: 1 });
      expect(changed(part)).toEqual(names);
      if (fused) for (const n of names) expect([n, same(part.after.get(n)!, full.after.get(n)!)]).toEqual([n, true]); // as when everything is trained
      const numbers = names.reduce((sum, n) => sum + part.after.get(n)!.length, 0);
      expect(part.optimizerBytes).toBe(8 * numbers); // two moments (a float32 gradient is given back after the step), nothing for the rest
    }
    const half = await train(name, { names, dtype: 'bfloat16' });
    expect(changed(half)).toEqual(names);
    expect(half.optimizerBytes).toBe(16 * names.reduce((sum, n) => sum + half.after.get(n)!.length, 0)); // and a gradient and a master copy
  });

  test('layers below the lowest trained one need no memory', async () => {
    const [all, last] = [await train('llama'), await train('llama', { names: ['model.layers.1.mlp.down_proj.weight'] })];
    expect(last.bytesPerRow).toBeLessThan(all.bytesPerRow);
  });

  test('freezeLayers: the embeddings and the first layers', async () => {
    const names = [...(await train('llama')).before.keys()];
    const above = parametersAbove(1, names);
    expect(above.every((n) => n.startsWith('model.layers.1.') || n === 'model.norm.weight' || n === 'lm_head.weight')).toBe(true);
    expect(above).toHaveLength(11);
    expect(parametersAbove(2, names)).toEqual(['model.norm.weight', 'lm_head.weight']);
    expect(() => parametersAbove(3, names)).toThrow(/at most the model's 2 layers for freezeLayers/);
    expect(parametersAbove(1, ['h.0.ln_1.weight', 'wte.weight', 'wpe.weight', 'h.1.attn.c_attn.bias'])).toEqual(['h.1.attn.c_attn.bias']);
  });

  test('a pattern that means nothing is an error that names a near one', () => {
    const names = ['model.embed_tokens.weight', 'model.layers.0.mlp.up_proj.weight', 'model.layers.10.mlp.up_proj.weight'];
    expect(() => selectParameters(['model.layer.0.mlp.up_proj.weight'], names)).toThrow(/like 'model\.layers\.0\.mlp\.up_proj\.weight'/);
    expect(() => selectParameters(['*', 'lm_head.*'], names)).toThrow(/a tied head is the embedding/);
    expect(selectParameters(['model.layers.?.*'], names)).toEqual([names[1]]);
    expect(selectParameters(['*.weight'], names)).toEqual(names);
  });
});

describe.each(families)('gradient checkpointing changes no bit: %s', (name) => {
  test.each([
    ['everything', {}],
    ['everything, small micro-batches', { microBatchTokens: 1 }],
    ['everything, unfused', { fused: false }],
    ['an adapter', { lora: true }],
    ['bfloat16', { dtype: 'bfloat16' as const }],
    ['bfloat16 with an adapter', { dtype: 'bfloat16' as const, lora: true }],
  ])('%s', async (_what, options: Options) => {
    const kept = await train(name, options);
    const recomputed = await train(name, { ...options, gradientCheckpointing: true });
    expect([...recomputed.after]).toEqual([...kept.after]);
    expect(changed(kept).length).toBeGreaterThan(0);
    expect(recomputed.bytesPerRow).toBeLessThan(kept.bytesPerRow);
  });

  test('the last layer', async () => {
    const names = [...(await train(name)).before.keys()].filter((n) => /\.1\.(mlp|self_attn|attn)/.test(n));
    const options = { names };
    const [kept, recomputed] = [await train(name, options), await train(name, { ...options, gradientCheckpointing: true })];
    expect([...recomputed.after]).toEqual([...kept.after]);
    expect(changed(recomputed)).toEqual(names);
  });
});

describe('a model with a scalar head', () => {
  async function trainPairs(names: string[], recompute: boolean): Promise<{ before: Weights; after: Weights }> {
    const model = await ScalarModel.load(join(goldenModels, 'qwen3'), { dtype: 'float32', newHead: { seed: 1 } });
    await settle(() => model.native.chooseTrained({ names, recompute }));
    const read = async () => new Map((await model.native.parameters().promise).map((t) => [t.name, t.data]));
    const before = await read();
    const { ids } = golden('qwen3');
    const pairs = [ids.slice(0, 9), ids.slice(0, 6), ids.slice(4, 20), ids.slice(8, 15)];
    const training = new Training(model);
    await training.accumulatePairs(lists(...pairs), { normalizer: 2, centerRewardsCoefficient: 0, microBatchTokens: 1000 });
    await training.optimizerStep(adamw);
    const after = await read();
    model.dispose();
    return { before, after };
  }

  test('the head alone, and everything but the head', async () => {
    const full = await trainPairs([], false);
    for (const names of [['score.weight'], [...full.before.keys()].filter((n) => n !== 'score.weight')]) {
      const part = await trainPairs(names, false);
      expect(changed(part)).toEqual(names);
      for (const n of names) expect(same(part.after.get(n)!, full.after.get(n)!)).toBe(true);
    }
  });

  test('gradient checkpointing changes no bit', async () => {
    expect([...(await trainPairs([], true)).after]).toEqual([...(await trainPairs([], false)).after]);
  });
});

const PEAK = `
const { readFileSync, writeFileSync } = require('node:fs');
const [, dist, model, recompute] = process.argv;
const { Policy } = require(dist + '/engine/policy.js');
const { Training } = require(dist + '/engine/training.js');
(async () => {
  const [B, L] = [400, 40];
  const batch = {
    tokens: Int32Array.from({ length: B * L }, (_, i) => 1 + ((i * 7 + Math.floor(i / L)) % 12)),
    offsets: Int32Array.from({ length: B + 1 }, (_, i) => i * L),
    promptLengths: new Int32Array(B).fill(3),
    advantages: Float32Array.from({ length: B }, (_, i) => (i % 3) - 1),
  };
  const policy = await Policy.load(model, { dtype: 'float32' });
  await policy.native.chooseTrained({ names: [], recompute: recompute === 'true' }).promise;
  await new Training(policy).accumulate(batch, { normalizer: B * L }, { microBatchTokens: 1e6, fused: true, workspaceBytes: 1e6 });
  console.log(/VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
})();`;

(process.platform === 'linux' ? test : test.skip)('gradient checkpointing needs less memory (skipped where there is no /proc)', () => {
  const [recomputed, kept] = [true, false].map((on) => {
    const args = ['-e', PEAK, join(__dirname, '../../dist/cjs'), demoModel(), String(on)];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } });
    expect(stderr).toBe('');
    return 1024 * Number(stdout);
  });
  // Of 15,600 rows each of three layers keeps 1,536 numbers; or 96, and one of them the rest (measured: 96 MB less).
  expect(kept! - recomputed!).toBeGreaterThan(60e6);
});
