// A prompt that several completions share is computed once: the gradients and log-probs are those of every sequence alone.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { Training, type TrainBatch } from '../../lib/engine/training.js';
import { goldenModels } from './support.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'fg-shared-'))));
afterAll(() => rmSync(folder, { recursive: true }));

const ids = (n: number, from: number) => Array.from({ length: n }, (_, i) => 3 + ((from + 7 * i) % 90));
// Longer than a window and than a tile of queries, of one token, used once; completions of one token, of several lengths, in no order.
const LONG = ids(21, 1);
const OTHER = ids(40, 5);
const sequences: [prompt: number[], completion: number[]][] = [
  [LONG, ids(9, 2)],
  [OTHER, ids(23, 3)],
  [LONG, ids(1, 4)],
  [[11], ids(6, 5)],
  [LONG, ids(40, 6)],
  [[12, 13], ids(17, 7)],
  [OTHER, ids(5, 8)],
  [[11], ids(3, 9)],
];

function batch(): TrainBatch {
  const offsets = new Int32Array(sequences.length + 1);
  sequences.forEach(([p, c], i) => (offsets[i + 1] = offsets[i]! + p.length + c.length));
  return {
    tokens: Int32Array.from(sequences.flatMap(([p, c]) => [...p, ...c])),
    offsets,
    promptLengths: Int32Array.from(sequences, ([p]) => p.length),
    advantages: Float32Array.from(sequences, (_, i) => (i % 2 ? 1 : -0.7) + 0.1 * i),
  };
}

/** Tensors of a safetensors file as numbers. */
function tensors(file: string): Map<string, Float32Array> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, { dtype: string; data_offsets: [number, number] }>;
  const out = new Map<string, Float32Array>();
  for (const [name, { dtype, data_offsets: at }] of Object.entries(header))
    if (dtype === 'F32')
      out.set(name, new Float32Array(bytes.buffer.slice(bytes.byteOffset + 8 + length + at[0], bytes.byteOffset + 8 + length + at[1])));
  return out;
}

/** Adam's first moment after one step from zero: a tenth of the gradient. */
async function gradients(name: string, dtype: 'float32' | 'bfloat16', microBatchTokens: number): Promise<Map<string, Float32Array>> {
  const policy = await Policy.load(join(goldenModels, name), { dtype });
  const training = new Training(policy);
  await training.accumulate(batch(), { lossType: 'dapo', normalizer: 100 }, { microBatchTokens, fused: true });
  await training.optimizerStep({ learningRate: 0, weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.99, adamEpsilon: 1e-8, maxGradNorm: 0 });
  const file = join(folder, `${name}-${dtype}-${microBatchTokens}`);
  await training.saveOptimizer(file);
  policy.dispose();
  return new Map([...tensors(file)].filter(([key]) => /exp_avg(?!_sq)|\.m$|first/.test(key)));
}

describe('gradients', () => {
  test.each([
    ['llama', 'float32', 2e-5],
    ['mistral', 'float32', 2e-5],
    ['gemma3', 'float32', 2e-5],
    ['qwen3', 'float32', 2e-5],
    ['gpt2', 'float32', 2e-5],
    ['qwen2', 'bfloat16', 0.05],
  ] as [string, 'float32' | 'bfloat16', number][])('%s %s: together as each sequence alone', async (name, dtype, bound) => {
    const [together, alone] = [await gradients(name, dtype, 100000), await gradients(name, dtype, 1)];
    expect(together.size).toBeGreaterThan(3);
    for (const [key, wanted] of alone) {
      const scale = Math.hypot(...wanted) / Math.sqrt(wanted.length);
      const error = Math.hypot(...together.get(key)!.map((g, i) => g - wanted[i]!)) / Math.sqrt(wanted.length);
      expect(scale).toBeGreaterThan(0);
      expect([key, error / scale < bound]).toEqual([key, true]);
    }
  });
});

test('a generation longer than the table of rotations, then training', async () => {
  const dir = join(folder, 'long');
  cpSync(join(goldenModels, 'llama'), dir, { recursive: true });
  const config = JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as object;
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 1024 }));
  const policy = await Policy.load(dir, { dtype: 'float32' });
  await policy.generate([Int32Array.of(5, 6)], { maxNewTokens: 400, ignoreEos: true });
  const { tokens } = await new Training(policy).accumulate(
    batch(),
    { lossType: 'dapo', normalizer: 100 },
    { microBatchTokens: 4096, fused: true },
  );
  policy.dispose();
  expect(tokens).toBe(104);
});

test('log-probs: together as each sequence alone', async () => {
  for (const name of ['llama', 'gemma3', 'gpt2']) {
    const policy = await Policy.load(join(goldenModels, name), { dtype: 'float32' });
    const [prompts, completions] = [sequences.map(([p]) => Int32Array.from(p)), sequences.map(([, c]) => Int32Array.from(c))];
    const together = await policy.score(prompts, completions, { entropy: true });
    for (const i of sequences.keys()) {
      const alone = await policy.score([prompts[i]!], [completions[i]!], { entropy: true });
      together.logps[i]!.forEach((l, t) => expect(Math.abs(l - alone.logps[0]![t]!)).toBeLessThan(1e-5));
      together.entropies[i]!.forEach((h, t) => expect(Math.abs(h - alone.entropies[0]![t]!)).toBeLessThan(1e-5));
    }
    policy.dispose();
  }
});
