// Mistakes of the caller: a typed error in the caller's words, with a code.
import { expect, test } from '@jest/globals';
import { groupAdvantages, grpoLoss, policyLoss, selectiveLogp } from '../../lib/index.js';

const batch = () => ({
  logits: new Float32Array(12),
  vocabSize: 3,
  targets: Int32Array.of(0, 1, 2, 0),
  advantages: Float32Array.of(1, -1),
  completionLength: 2,
});

function failure(f: () => unknown): Error & { code: string } {
  try {
    f();
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('nothing was thrown');
}
const loss = (change: object, config: object = {}) => failure(() => grpoLoss({ ...batch(), ...change }, config));

test.each([
  [
    () => loss({ targets: Int32Array.of(0, 3, 0, 0) }),
    RangeError,
    'ERR_INVALID_ARG',
    /from 0 to 2 for targets\[1\] \(sequence 0, token 1\) but received 3/,
  ],
  [
    () => loss({ targets: Int32Array.of(0, 0, 0, -100) }),
    RangeError,
    'ERR_INVALID_ARG',
    /targets\[3\] \(sequence 1, token 1\) but received -100/,
  ],
  [() => loss({ targets: [0, 1, 2, 0] }), TypeError, 'ERR_INVALID_ARG', /Expected an Int32Array for targets but received Array\(4\)/],
  [
    () => loss({ oldLogps: Float32Array.of(0, 0, NaN, 0) }),
    RangeError,
    'ERR_NON_FINITE',
    /oldLogps\[2\] \(sequence 1, token 0\) but received NaN/,
  ],
  [
    () => loss({ refLogps: Float32Array.of(0, 0, 0, Infinity) }, { beta: 1 }),
    RangeError,
    'ERR_NON_FINITE',
    /refLogps\[3\] \(sequence 1, token 1\) but received Infinity/,
  ],
  [() => loss({}, { beta: 1 }), TypeError, 'ERR_INVALID_ARG', /refLogps/],
  [() => loss({ advantages: Float32Array.of(1, NaN) }), RangeError, 'ERR_NON_FINITE', /advantages/],
  [() => loss({ advantages: new Float32Array(3) }), TypeError, 'ERR_INVALID_ARG', /length 2 \(per sequence\) or 4 \(per token\)/],
  [() => loss({ logits: new Float32Array(11) }), RangeError, 'ERR_INVALID_ARG', /12 elements \(4 rows of 3\)/],
  [() => loss({ logits: new Uint16Array(12) }), RangeError, 'ERR_INVALID_ARG', /'bfloat16', 'float16' for dtype but received undefined/],
  [() => loss({ dtype: 'bfloat16' }), RangeError, 'ERR_INVALID_ARG', /'float32' for dtype/],
  [() => loss({ rowStride: 2 }), RangeError, 'ERR_INVALID_ARG', /rowStride/],
  [() => loss({ mask: new Uint8Array(3) }), RangeError, 'ERR_INVALID_ARG', /mask/],
  [() => loss({ completionLength: 3 }), RangeError, 'ERR_INVALID_ARG', /divisor of targets.length 4 for completionLength/],
  [() => loss({ offsets: Int32Array.of(0, 4) }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /either offsets or completionLength/],
  [() => loss({ completionLength: undefined, offsets: Int32Array.of(0, 3, 2, 4) }), RangeError, 'ERR_INVALID_ARG', /non-decreasing/],
  [() => loss({ completionLength: undefined, offsets: Int32Array.of(0, 2, 3) }), RangeError, 'ERR_INVALID_ARG', /offsets\[2\]/],
  [() => loss({ rewards: [1, 2], numGenerations: 2 }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /either rewards or advantages/],
  [
    () => loss({ advantages: undefined, rewards: [1, NaN], numGenerations: 2 }),
    RangeError,
    'ERR_NON_FINITE',
    /rewards\[1\] but received NaN/,
  ],
  [
    () => loss({ advantages: undefined, rewards: [1, 2, 3], numGenerations: 3 }),
    RangeError,
    'ERR_INVALID_ARG',
    /one reward per sequence \(2\)/,
  ],
  [() => loss({ logit: 1 }), TypeError, 'ERR_UNKNOWN_OPTION', /'logit' of grpoLoss batch; did you mean 'logits'/],
  [() => loss({}, { epsilon_high: 1 }), TypeError, 'ERR_UNKNOWN_OPTION', /did you mean 'epsilonHigh'/],
  [() => loss({}, { lossType: 'cispo' }), TypeError, 'ERR_INVALID_ARG', /cispo.*upper bound/],
  [() => loss({}, { lossType: 'cispo', epsilonHigh: null }), TypeError, 'ERR_INVALID_ARG', /cispo.*upper bound/],
  [() => loss({}, { lossType: 'dr_grpo', maxCompletionLength: null }), RangeError, 'ERR_INVALID_ARG', /maxCompletionLength/],
  [() => loss({}, { lossType: 'ppo' }), RangeError, 'ERR_INVALID_ARG', /one of 'grpo', .*'kl_cov' for lossType but received "ppo"/],
  [() => loss({}, { lossType: 'luspo' }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /'luspo' needs importanceSamplingLevel 'sequence'/],
  [
    () => loss({}, { lossType: 'vespo', importanceSamplingLevel: 'sequence' }),
    TypeError,
    'ERR_INCOMPATIBLE_OPTIONS',
    /'vespo' has no importanceSamplingLevel/,
  ],
  [() => loss({}, { lossType: 'sapo', delta: 2 }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /delta bounds a clipped ratio/],
  [() => loss({}, { dualClip: 1 }), RangeError, 'ERR_INVALID_ARG', /> 1 for dualClip/],
  [() => loss({}, { topEntropyQuantile: 0.2, entropyThreshold: 1 }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /not both/],
  [() => loss({}, { klGradient: 'score_function', useBiasCorrectionKl: true }), TypeError, 'ERR_INCOMPATIBLE_OPTIONS', /twice/],
  [() => loss({}, { samplerImportanceSampling: 'token_mask' }), TypeError, 'ERR_INVALID_ARG', /samplerLogps/],
  [
    () =>
      loss(
        { samplerLogps: Float32Array.of(-1, NaN, -1, -Infinity) },
        { samplerImportanceSampling: 'token_mask', samplerImportanceSamplingClipMax: 2 },
      ),
    RangeError,
    'ERR_NON_FINITE',
    /samplerLogps\[3\] \(sequence 1, token 1\) but received -Infinity/,
  ],
  [
    () => loss({}, { lossType: 'vespo', samplerImportanceSampling: 'sequence_mask' }),
    TypeError,
    'ERR_INCOMPATIBLE_OPTIONS',
    /'token_truncate' or 'token_mask'/,
  ],
  [() => loss({}, { lossType: 'dr_grpo' }), RangeError, 'ERR_INVALID_ARG', /maxCompletionLength/],
  [() => loss({}, { maskTruncatedCompletions: true }), TypeError, 'ERR_INVALID_ARG', /truncated/],
  [() => loss({}, { temperature: 0 }), RangeError, 'ERR_INVALID_ARG', /temperature/],
  [() => loss({}, { epsilon: '0.2' }), TypeError, 'ERR_INVALID_ARG', /epsilon/],
  [() => loss({}, { normalizer: 0 }), RangeError, 'ERR_INVALID_ARG', /normalizer/],
  [() => loss({}, null as never), TypeError, 'ERR_INVALID_ARG', /config/],
  [
    () => failure(() => policyLoss({ ...batch(), logps: new Float32Array(4) })),
    TypeError,
    'ERR_UNKNOWN_OPTION',
    /'logits' of policyLoss batch/,
  ],
  [
    () => failure(() => policyLoss({ logps: Float32Array.of(-1, NaN), advantages: Float32Array.of(1), offsets: Int32Array.of(0, 2) })),
    RangeError,
    'ERR_NON_FINITE',
    /logps\[1\]/,
  ],
  [() => failure(() => groupAdvantages([1, 2, 3], { numGenerations: 2 })), RangeError, 'ERR_INVALID_ARG', /divisor/],
  [() => failure(() => groupAdvantages([1, '2'] as never, { numGenerations: 2 })), TypeError, 'ERR_INVALID_ARG', /rewards\[1\]/],
  [() => failure(() => groupAdvantages([1, 2], {} as never)), TypeError, 'ERR_INVALID_ARG', /numGenerations/],
])('mistake %#', (f, kind, code, message) => {
  const error = f();
  expect(error).toBeInstanceOf(kind);
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
});

test.each([NaN, Infinity])('a selected row with %d is named, its gradient is 0, the others are valid', (bad) => {
  const b = batch();
  b.logits[7] = bad;
  const error = failure(() => grpoLoss(b));
  expect(error).toBeInstanceOf(RangeError);
  expect(error.code).toBe('ERR_NON_FINITE');
  expect(error.message).toMatch(/row 2/);
  expect(Array.from(b.logits.subarray(6, 9))).toEqual([0, 0, 0]);
  expect(b.logits[0]).not.toBe(0);
});

test('where tokens depend on each other, a bad row is found before any gradient is written', () => {
  const b = batch();
  b.logits[7] = NaN;
  const before = b.logits.slice();
  const config = { lossType: 'grpo', importanceSamplingLevel: 'sequence' } as const;
  expect(failure(() => grpoLoss(b, config)).message).toMatch(/row 2 \(sequence 1, token 0\)/);
  expect(b.logits).toEqual(before);
});

test('a row without a finite logit is named', () => {
  const logits = Float32Array.of(0, 1, -Infinity, -Infinity);
  expect(failure(() => selectiveLogp({ logits, vocabSize: 2, targets: Int32Array.of(0, 0) })).message).toMatch(/row 1/);
});

test('mistakes in token-sized inputs are found before the logits are touched', () => {
  const b = { ...batch(), oldLogps: Float32Array.of(0, 0, 0, NaN) };
  b.logits.set([1, 2, 3]);
  const before = b.logits.slice();
  failure(() => grpoLoss(b));
  expect(b.logits).toEqual(before);
});
