import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import type { TokenLists } from '../../lib/engine/addon.js';

export const goldenModels = join(__dirname, '../golden/models');
export const families = [
  ...['llama', 'llama-tied-bias', 'llama3-rope', 'llama-yarn', 'mistral', 'qwen2', 'qwen3', 'smollm3', 'gemma3', 'gpt2'],
];

export interface Golden {
  ids: number[];
  promptLength: number;
  greedy: number[];
  logits: { first: number[]; mid: number[]; last: number[] };
  logps: number[];
  entropies: number[];
  loss: number;
  grads: Record<string, { norm: number; first: number[]; sum: number }>;
}

export function golden(name: string): Golden {
  return JSON.parse(readFileSync(join(goldenModels, name, 'golden.json'), 'utf8')) as Golden;
}

export function lists(...sequences: (readonly number[] | Int32Array)[]): TokenLists {
  const offsets = new Int32Array(sequences.length + 1);
  sequences.forEach((s, i) => (offsets[i + 1] = offsets[i]! + s.length));
  return { tokens: Int32Array.from(sequences.flatMap((s) => [...s])), offsets };
}

/** A folder of real weights beside the checkout, or undefined. */
export function sharedModel(name: string): string | undefined {
  const dir = process.env['FUSED_GRPO_TEST_MODELS'] ?? join(__dirname, '../../../shared/models');
  const folder = join(dir, name);
  return existsSync(join(folder, 'config.json')) ? folder : undefined;
}

export const loadGolden = (name: string, dtype: 'float32' | 'bfloat16' = 'float32') => Policy.load(join(goldenModels, name), { dtype });

export function largest(values: Iterable<number>): number {
  let most = 0;
  for (const v of values) most = Math.max(most, Number.isNaN(v) ? Infinity : v);
  return most;
}
