// The caller's mistakes and degenerate shapes: the CUDA kernels say and return what the CPU's do.
import { expect, test } from '@jest/globals';
import { grpoLoss, groupAdvantages, policyLoss, selectiveLogp, selectiveLogpBackward } from '../../lib/index.js';
import { substituteCore } from '../../lib/native.js';
import { KERNELS, onEach } from '../backends/table.js';

const batch = (change: object = {}) => ({
  logits: Float32Array.from({ length: 12 }, (_, i) => Math.sin(i)),
  vocabSize: 3,
  targets: Int32Array.of(0, 1, 2, 0),
  advantages: Float32Array.of(1, -1),
  completionLength: 2,
  ...change,
});
const logits = (at: number, value: number, from = 1) => {
  const z = batch().logits;
  for (let i = 0; i < from; ++i) z[at + i] = value;
  return z;
};
const GSPO = { lossType: 'grpo', importanceSamplingLevel: 'sequence' } as const;
const rows = (change: object) =>
  selectiveLogp({ logits: batch().logits, vocabSize: 3, targets: batch().targets, entropy: true, ...change });

const CASES: Record<string, () => unknown> = {
  'target too large': () => grpoLoss(batch({ targets: Int32Array.of(0, 3, 2, 0) })),
  'target below 0': () => rows({ targets: Int32Array.of(0, 1, 2, -100) }),
  'targets before log-probs': () => grpoLoss(batch({ targets: Int32Array.of(0, 0, 0, 9), oldLogps: Float32Array.of(NaN, 0, 0, 0) })),
  'old log-prob NaN': () => grpoLoss(batch({ oldLogps: Float32Array.of(0, 0, NaN, 0) })),
  'reference infinite': () => grpoLoss({ ...batch({}), refLogps: Float32Array.of(0, 0, 0, Infinity) }, { beta: 1 }),
  'advantage NaN': () => grpoLoss(batch({ advantages: Float32Array.of(1, NaN) })),
  'reward NaN': () => grpoLoss(batch({ advantages: undefined, rewards: [1, NaN], numGenerations: 2 })),
  'reward NaN, excluded': () => groupAdvantages([1, NaN, 3, 4], { numGenerations: 2, nonFinite: 'exclude' }),
  'log-prob NaN': () => policyLoss({ logps: Float32Array.of(-1, NaN), advantages: Float32Array.of(1), offsets: Int32Array.of(0, 2) }),
  'logit NaN': () => grpoLoss(batch({ logits: logits(7, NaN) })),
  'logit +Infinity': () => rows({ logits: logits(4, Infinity) }),
  'no finite logit': () => rows({ logits: logits(3, -Infinity, 3) }),
  'masked vocabulary': () => rows({ logits: logits(1, -Infinity) }),
  'the target itself at -Infinity': () => rows({ logits: logits(0, -Infinity) }),
  'NaN and a bad id behind the mask': () =>
    grpoLoss(batch({ logits: logits(3, NaN, 3), targets: Int32Array.of(0, 1 << 30, 2, 0), mask: Uint8Array.of(1, 0, 1, 1) })),
  'everything masked': () => grpoLoss(batch({ mask: new Uint8Array(4) })),
  'no rows': () =>
    grpoLoss({
      logits: new Float32Array(0),
      vocabSize: 3,
      targets: new Int32Array(0),
      advantages: new Float32Array(0),
      offsets: Int32Array.of(0),
    }),
  'a vocabulary of one': () =>
    grpoLoss({
      logits: Float32Array.of(5, -3),
      vocabSize: 1,
      targets: new Int32Array(2),
      advantages: Float32Array.of(1),
      completionLength: 2,
    }),
  'empty sequences': () =>
    grpoLoss(batch({ completionLength: undefined, advantages: Float32Array.of(1, 2, -1), offsets: Int32Array.of(0, 0, 4, 4) }), {
      lossType: 'grpo',
    }),
  'no upstream gradient': () =>
    selectiveLogpBackward({ logits: logits(0, NaN, 3), vocabSize: 3, targets: batch().targets, gradLogps: Float32Array.of(0, 1, 0, 2) }),
  'sampler log-prob infinite': () => grpoLoss(batch({ samplerLogps: Float32Array.of(0, 0, -Infinity, 0) })),
  'sampler log-prob unknown': () =>
    grpoLoss(batch({ samplerLogps: Float32Array.of(-1, NaN, -2, -1), oldLogps: Float32Array.of(-1.1, -1, -1, -1) }), {
      samplerImportanceSampling: 'sequence_truncate',
    }),
  'entropy NaN': () =>
    policyLoss(
      { logps: Float32Array.of(-1, -2), entropies: Float32Array.of(1, NaN), advantages: Float32Array.of(1), offsets: Int32Array.of(0, 2) },
      { topEntropyQuantile: 0.5 },
    ),
  'sequence level': () => grpoLoss(batch({ oldLogps: Float32Array.of(-1, -1, -1, -1) }), { ...GSPO, beta: 0 }),
  'sequence level, logit NaN': () => grpoLoss(batch({ logits: logits(7, NaN) }), GSPO),
  'sequence level, bad target': () => grpoLoss(batch({ targets: Int32Array.of(0, 0, 0, 9) }), GSPO),
  'sequence level, everything masked': () => grpoLoss(batch({ mask: new Uint8Array(4) }), GSPO),
  'sequence level, the target itself at -Infinity': () => grpoLoss(batch({ logits: logits(0, -Infinity) }), GSPO),
  'sequence level, empty sequences': () =>
    grpoLoss(batch({ completionLength: undefined, advantages: Float32Array.of(1, 2, -1), offsets: Int32Array.of(0, 0, 4, 4) }), GSPO),
  'batch statistics of nothing': () => grpoLoss(batch({ mask: new Uint8Array(4) }), { topEntropyQuantile: 0.2, entropyCoef: 0.1 }),
  'covariance of nothing': () => grpoLoss(batch({ mask: new Uint8Array(4) }), { lossType: 'kl_cov' }),
  'covariance of one token': () => grpoLoss(batch({ mask: Uint8Array.of(0, 0, 1, 0) }), { lossType: 'kl_cov' }),
  'far from the old policy': () =>
    grpoLoss(batch({ oldLogps: Float32Array.of(-90, -90, -1e4, -1e4) }), { lossType: 'bnpo', delta: 4, beta: 0 }),
  'logits of a thousand': () => rows({ logits: batch().logits.map((v) => v * 3 + 1000) }),
};

/** What came of it: the error's class, code and text, or every number of the result. */
function outcome(run: () => unknown): { error?: string; numbers: number[] } {
  try {
    const numbers: number[] = [];
    const walk = (v: unknown): void => {
      if (typeof v === 'number') numbers.push(v);
      else if (ArrayBuffer.isView(v)) numbers.push(...(v as Float32Array));
      else if (v && typeof v === 'object')
        Object.keys(v)
          .sort()
          .forEach((k) => walk((v as Record<string, unknown>)[k]));
    };
    walk(run());
    return { numbers };
  } catch (e) {
    const error = e as Error & { code?: string };
    return { error: `${error.constructor.name} ${error.code} ${error.message}`, numbers: [] };
  }
}

onEach('mistakes and edges', KERNELS, (kernel) => {
  test.each(Object.keys(CASES))('%s', (name) => {
    substituteCore(undefined);
    const cpu = outcome(CASES[name]!);
    kernel.use(7);
    const cuda = outcome(CASES[name]!);
    expect(cuda.error).toBe(cpu.error);
    expect(cuda.numbers.length).toBe(cpu.numbers.length);
    cpu.numbers.forEach((want, i) => {
      if (Number.isFinite(want)) expect(Math.abs(cuda.numbers[i]! - want)).toBeLessThanOrEqual(2e-5 * Math.max(1, Math.abs(want)));
      else expect(cuda.numbers[i]).toBe(want);
    });
  });
});
