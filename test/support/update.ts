// Gradients as test/golden/update holds them (scripts/goldens/make_update_goldens.py), and ours, read out of the optimizer.
import { expect } from '@jest/globals';
import { join } from 'node:path';
import type { Training } from '../../lib/engine/training.js';
import { readTensors } from '../engine/scalar_support.js';

/** Per tensor: the gradient's norm, and every `stride`-th entry. */
export type StoredGradients = Record<string, { norm: number; stride: number; sample: number[] }>;

export interface Adam {
  learningRate: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
}

/** With beta1 0 Adam's first moment is the gradient itself, at every step. */
export async function gradientsOf(training: Training, folder: string, adam: Partial<Adam> = {}): Promise<Map<string, Float32Array>> {
  const rest = { learningRate: 0, adamBeta1: 0, adamBeta2: 0.9, adamEpsilon: 1e-8, ...adam };
  await training.optimizerStep({ weightDecay: 0, maxGradNorm: 0, ...rest });
  const file = join(folder, 'moments.safetensors');
  await training.saveOptimizer(file);
  const moments = [...readTensors(file)].filter(([name]) => name.endsWith('.exp_avg'));
  return new Map(moments.map(([name, values]) => [name.slice(0, -'.exp_avg'.length), values]));
}

/** Norm of the difference / norm, over the stored entries of all tensors; and each tensor's norm, as a part of the whole's. */
export function gradientError(got: Map<string, Float32Array>, want: StoredGradients): { entries: number; norms: number } {
  expect([...got.keys()].sort()).toEqual(Object.keys(want).sort());
  const whole = Math.hypot(...Object.values(want).map((g) => g.norm));
  expect(whole).toBeGreaterThan(1e-3);
  let [difference, size, norms, seen] = [0, 0, 0, 0];
  for (const [name, { norm, stride, sample }] of Object.entries(want)) {
    const values = got.get(name)!;
    expect([name, Math.ceil(values.length / stride)]).toEqual([name, sample.length]);
    sample.forEach((x, k) => {
      difference += (values[k * stride]! - x) ** 2;
      size += x ** 2;
    });
    norms = Math.max(norms, Math.abs(Math.hypot(...values) - norm) / whole);
    seen += sample.length;
  }
  expect(seen).toBeGreaterThan(500);
  return { entries: Math.sqrt(difference / size), norms };
}
