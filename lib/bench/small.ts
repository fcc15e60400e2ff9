// What is neither vocabulary- nor model-sized: group advantages against a plain loop, AdamW against a copy.
import { core, engine } from '../native.js';
import { groupAdvantages } from '../ops/group_advantages.js';
import { filled, noise, relativeError } from './data.js';
import { measure, type BenchContext, type CaseResult } from './measure.js';

/** (reward - mean) / (std + 1e-4) of groups of `size`, std with n - 1. */
function plainAdvantages(rewards: Float64Array, size: number): Float64Array {
  const out = new Float64Array(rewards.length);
  for (let begin = 0; begin < rewards.length; begin += size) {
    const group = Array.from(rewards.subarray(begin, begin + size));
    const mean = group.reduce((a, b) => a + b, 0) / size;
    const std = Math.sqrt(group.map((r) => (r - mean) ** 2).reduce((a, b) => a + b, 0) / (size - 1));
    group.forEach((r, i) => (out[begin + i] = (r - mean) / (std + 1e-4)));
  }
  return out;
}

export async function advantagesCase(completions: number, numGenerations: number, context: BenchContext): Promise<CaseResult> {
  const next = noise();
  const rewards = Float64Array.from({ length: completions }, next);
  const rows = await measure(
    {
      'plain JavaScript': () => void plainAdvantages(rewards, numGenerations),
      groupAdvantages: () => void groupAdvantages(rewards, { numGenerations }),
    },
    context,
  );
  const got = groupAdvantages(rewards, { numGenerations }).advantages;
  rows[1]!.error = relativeError((i) => got[i]!, plainAdvantages(rewards, numGenerations));
  return { case: 'advantages', label: `${completions} rewards in groups of ${numGenerations}`, baseline: 'plain JavaScript', rows };
}

export async function optimizerCase(parameters: number, context: BenchContext): Promise<CaseResult> {
  const make = (size: number): Float32Array => filled(parameters, 'float32', size) as Float32Array;
  const state = { parameter: make(1), gradient: make(1e-3), moment1: new Float32Array(parameters), moment2: new Float32Array(parameters) };
  const options = { learningRate: 1e-6, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, gradientScale: 1 };
  const target = new Float32Array(parameters);
  const bytes = (a: Float32Array): Uint8Array => new Uint8Array(a.buffer);
  let step = 0;
  const rows = await measure(
    {
      'copy of the parameters': () => core().copy(bytes(target), bytes(state.gradient)),
      'AdamW and gradient norm': () => void engine().adamwStep({ ...state, ...options, step: ++step }),
    },
    context,
  );
  // The norm reads the gradient; the step reads four arrays and writes three.
  rows[1]!.bandwidthShare = 8 / 2 / rows[1]!.perBaseline;
  return { case: 'optimizer', label: `${parameters} parameters, float32`, baseline: 'copy of the parameters', rows };
}
