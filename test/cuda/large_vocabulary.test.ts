// Vocabularies that take clusters of 2, 4 and 8 blocks, and 8 of 512 threads: the CUDA kernels against the CPU's, under several schedules.
import { expect, test } from '@jest/globals';
import { grpoLoss } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { KERNELS, onEach } from '../backends/table.js';
import { fromBits, toBits, ulp, type Dtype } from '../support/half.js';
import { Random } from '../support/random.js';

const ROWS = 5;

function makeBatch(dtype: Dtype, V: number, seed: number) {
  const r = new Random(seed);
  const noise = Float32Array.from({ length: 4096 }, () => 4 * r.normal());
  const make = dtype === 'float32' ? Float32Array : Uint16Array;
  const offset = 2; // elements: rows do not begin at 16 bytes
  const logits = new make(new ArrayBuffer((ROWS * V + offset) * make.BYTES_PER_ELEMENT), offset * make.BYTES_PER_ELEMENT, ROWS * V);
  for (let i = 0; i < logits.length; ++i) logits[i] = toBits(dtype, noise[(i * 7 + (i >> 12)) & 4095]!);
  const targets = Int32Array.of(0, V - 1, V >> 1, (V >> 3) + 1, 5);
  const mask = Uint8Array.of(1, 1, 0, 1, 1);
  if (V > 1000) logits[3 * V + targets[3]!] = toBits(dtype, 30); // nearly certain
  return { logits, dtype, vocabSize: V, targets, mask, advantages: Float32Array.of(1, -2, 3, 0.5, 0), completionLength: 1 };
}

// the block kernel reads row by row, whatever the vocabulary: the simulator, which is slow, leaves it out
const LARGE = KERNELS.filter((k) => k.variant === 'cluster' || k.backend.name === 'cuda');

onEach('large vocabularies', LARGE, (kernel) => {
  test.each<[Dtype, number, number]>([
    ['bfloat16', 32000, 1],
    ['bfloat16', 50257, 2],
    ['bfloat16', 128256, 4],
    ['bfloat16', 151936, 8],
    ['bfloat16', 262144, 8],
    ['float16', 65537, 2],
    ['float32', 32000, 2],
    ['float32', 65537, 4],
    ['float32', 151936, 8],
    ['float32', 262144, 8],
  ])('%s, %d columns, clusters of %d', (dtype, V, cluster) => {
    const config = { lossType: 'grpo', entropyCoef: 0.01, temperature: 0.9 } as const;
    substituteCore(undefined);
    const want = grpoLoss(makeBatch(dtype, V, V), config);
    for (const seed of [1, 2]) {
      kernel.use(seed, { multiprocessors: 8 });
      kernel.backend.launches?.();
      const got = grpoLoss(makeBatch(dtype, V, V), config);
      const launches = kernel.backend.launches?.();
      if (launches) expect(launches.find((l) => l.kernel.includes('rows_cluster'))!.cluster).toBe(cluster);
      expect(Math.abs(got.loss - want.loss)).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(want.loss)));
      got.logps.forEach((v, t) => expect(Math.abs(v - want.logps[t]!)).toBeLessThanOrEqual(2e-5 * Math.max(1, Math.abs(want.logps[t]!))));
      got.entropies.forEach((v, t) => expect(Math.abs(v - want.entropies[t]!)).toBeLessThanOrEqual(2e-4));
      let worst = 0;
      let largest = 0;
      for (let i = 0; i < got.gradLogits.length; ++i) largest = Math.max(largest, Math.abs(fromBits(dtype, want.gradLogits[i]!)));
      for (let i = 0; i < got.gradLogits.length; ++i) {
        const w = fromBits(dtype, want.gradLogits[i]!);
        const slack = (dtype === 'float32' ? 2e-5 * Math.abs(w) : ulp(dtype, w)) + 1e-6 * largest;
        worst = Math.max(worst, Math.abs(fromBits(dtype, got.gradLogits[i]!) - w) / slack);
      }
      expect(worst).toBeLessThanOrEqual(1);
      for (let i = 2 * V; i < 3 * V; ++i) if (!Object.is(got.gradLogits[i], 0)) throw new Error(`masked row, element ${i - 2 * V}`);
    }
  });
});
