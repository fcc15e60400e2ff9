// Calls that are right, small and random: what bad-calls.cjs spoils. Each: [function, ...arguments]; the first object is the batch.
'use strict';

const floats = (r, n) => Float32Array.from({ length: n }, () => -3 * r.next());
const shape = (r) => ({ B: 2 * (1 + r.below(2)), T: 1 + r.below(4), V: 2 + r.below(12) });
const layoutOf = (r, B, T) => (r.chance(0.5) ? { completionLength: T } : { offsets: Int32Array.from({ length: B + 1 }, (_, i) => i * T) });
const groupsOf = (r, B) =>
  r.chance(0.5) ? { numGenerations: 2 } : { groupOffsets: Int32Array.from({ length: B / 2 + 1 }, (_, i) => 2 * i) };
const maybe = (r, p, more) => (r.chance(p) ? more() : {});
const maskOf = (r, n) => Uint8Array.from({ length: n }, () => (r.chance(0.8) ? 1 : 0));
const rewardsOf = (r, B, binary) => {
  const values = Array.from({ length: B }, () => (binary ? r.below(2) : r.next()));
  return r.pick([() => values, () => Float32Array.from(values), () => Float64Array.from(values)])();
};

function logitsOf(r, B, T, V) {
  const n = B * T;
  const half = r.chance(0.2);
  const rowStride = r.chance(0.2) ? V + r.below(3) : undefined;
  const size = rowStride ? n * rowStride : n * V;
  // a view that begins anywhere: aligned to its elements, not to a vector
  const offset = r.below(5);
  const logits = half
    ? new Uint16Array(new ArrayBuffer(2 * (size + offset)), 2 * offset, size).fill(0x3f80)
    : new Float32Array(new ArrayBuffer(4 * (size + offset)), 4 * offset, size).fill(0.25);
  return {
    logits,
    vocabSize: V,
    targets: Int32Array.from({ length: n }, () => r.below(V)),
    ...(half ? { dtype: r.pick(['bfloat16', 'float16']) } : {}),
    ...(rowStride ? { rowStride } : {}),
  };
}

const tokenArrays = (r, n) => ({
  ...maybe(r, 0.5, () => ({ oldLogps: floats(r, n) })),
  ...maybe(r, 0.5, () => ({ refLogps: floats(r, n) })),
  ...maybe(r, 0.3, () => ({ samplerLogps: floats(r, n) })),
  ...maybe(r, 0.5, () => ({ mask: maskOf(r, n) })),
});
const LOSSES = ['dapo', 'grpo', 'bnpo', 'cispo', 'sapo', 'vespo', 'gmpo', 'reinforce', 'dppo', 'clip_cov', 'kl_cov'];
const lossConfig = (r) => ({
  lossType: r.pick(LOSSES),
  epsilonHigh: 0.3,
  ...maybe(r, 0.2, () => ({ temperature: 0.5 + r.next() })),
  ...maybe(r, 0.2, () => ({ normalizer: 3 })),
});

/** `op(random)` gives [name of the function, arguments]. */
const GOOD = {
  groupAdvantages: (r) => [rewardsOf(r, 4), { ...groupsOf(r, 4), ...maybe(r, 0.3, () => ({ transform: 'rank' })) }],
  multiRewardAdvantages: (r) => [
    [rewardsOf(r, 4), rewardsOf(r, 4)],
    { ...groupsOf(r, 4), ...maybe(r, 0.5, () => ({ rewardWeights: [1, 2] })) },
  ],
  passAtKAdvantages: (r) => [rewardsOf(r, 4, true), { ...groupsOf(r, 4), k: 1 + r.below(2) }],
  processAdvantages: (r) => {
    const T = 2 + r.below(3);
    return [
      {
        stepRewards: rewardsOf(r, 4),
        stepEnds: Int32Array.of(0, 1, T, T + 1),
        stepOffsets: Int32Array.of(0, 2, 4),
        numGenerations: 2,
        ...layoutOf(r, 2, T),
      },
      maybe(r, 0.5, () => ({ scaleRewards: 'none' })),
    ];
  },
  rewardsWithKl: (r) => {
    const { B, T } = shape(r);
    return [
      { rewards: rewardsOf(r, B), logps: floats(r, B * T), refLogps: floats(r, B * T), ...layoutOf(r, B, T) },
      { beta: r.pick([0, 0.1]) },
    ];
  },
  informativeGroups: (r) => [r.chance(0.5) ? Uint8Array.of(0, 1) : { zeroStd: Uint8Array.of(1, 0) }, groupsOf(r, 4)],
  gae: (r) => {
    const { B, T } = shape(r);
    return [
      { rewards: floats(r, B * T), values: floats(r, B * T), ...layoutOf(r, B, T), ...maybe(r, 0.5, () => ({ lastValues: floats(r, B) })) },
      maybe(r, 0.5, () => ({ gamma: 0.9, lambda: 0.9, whiten: true })),
    ];
  },
  valueLoss: (r) => {
    const { B, T } = shape(r);
    const n = B * T;
    const more = maybe(r, 0.5, () => ({ mask: maskOf(r, n) }));
    return [
      { values: floats(r, n), returns: floats(r, n), oldValues: floats(r, n), ...layoutOf(r, B, T), ...more },
      maybe(r, 0.5, () => ({ cliprangeValue: 0.2 })),
    ];
  },
  preferenceLoss: (r) => [
    { chosenRewards: floats(r, 3), rejectedRewards: floats(r, 3), ...maybe(r, 0.5, () => ({ margins: floats(r, 3) })) },
    maybe(r, 0.5, () => ({ centerRewardsCoefficient: 0.01 })),
  ],
  selectiveLogp: (r) => {
    const { B, T, V } = shape(r);
    return [{ ...logitsOf(r, B, T, V), entropy: r.chance(0.5), ...maybe(r, 0.5, () => ({ mask: maskOf(r, B * T) })) }];
  },
  selectiveLogpBackward: (r) => {
    const { B, T, V } = shape(r);
    const n = B * T;
    const more = maybe(r, 0.5, () => ({ gradEntropies: floats(r, n), inPlace: false }));
    return [{ ...logitsOf(r, B, T, V), gradLogps: floats(r, n), ...more }];
  },
  policyLoss: (r) => {
    const { B, T } = shape(r);
    const n = B * T;
    const advantages = floats(r, r.chance(0.5) ? B : n);
    return [{ logps: floats(r, n), entropies: floats(r, n), advantages, ...tokenArrays(r, n), ...layoutOf(r, B, T) }, lossConfig(r)];
  },
  grpoLoss: (r) => {
    const { B, T, V } = shape(r);
    const n = B * T;
    const value = r.chance(0.5) ? { rewards: rewardsOf(r, B), ...groupsOf(r, B) } : { advantages: floats(r, r.chance(0.5) ? B : n) };
    return [
      { ...logitsOf(r, B, T, V), ...value, ...tokenArrays(r, n), ...layoutOf(r, B, T) },
      { ...lossConfig(r), ...maybe(r, 0.3, () => ({ inPlace: false })) },
    ];
  },
};

/** The same for the engine: calls that return promises. `e`: { Tensor, policy }. */
const GOOD_ENGINE = {
  tensorFrom: (r, e) => [
    (...args) => e.Tensor.from(...args).dispose(),
    new Float32Array(6),
    [2, 3],
    maybe(r, 0.5, () => ({ dtype: 'bfloat16' })),
  ],
  selectiveLogp: (r, e) => {
    const logits = e.Tensor.from(new Float32Array(12), [3, 4]);
    return [e.api.selectiveLogp, { logits, vocabSize: 4, targets: Int32Array.of(0, 1, 2), mask: maskOf(r, 3) }];
  },
  grpoLoss: (r, e) => {
    const logits = e.Tensor.from(new Float32Array(16), [4, 4]);
    return [
      e.api.grpoLoss,
      { logits, vocabSize: 4, targets: Int32Array.of(0, 1, 2, 3), rewards: [0, 1], numGenerations: 2, completionLength: 2 },
      lossConfig(r),
    ];
  },
  linearGrpoLoss: (r, e) => {
    const hidden = e.Tensor.from(floats(r, 8), [4, 2]);
    const weight = e.Tensor.from(floats(r, 10), [5, 2]);
    const batch = {
      hidden,
      weight,
      targets: Int32Array.of(0, 1, 2, 3),
      advantages: Float32Array.of(1, -1),
      ...tokenArrays(r, 4),
      ...layoutOf(r, 2, 2),
    };
    return [e.api.linearGrpoLoss, batch, lossConfig(r)];
  },
  generate: (r, e) => [
    (p, o) => e.policy.generate(p, o),
    [Int32Array.of(5, 6), '1+2='],
    { numGenerations: 2, maxNewTokens: 2, temperature: 1, topK: 3, seed: 1 },
  ],
  score: (r, e) => [
    (p, c, o) => e.policy.score(p, c, o),
    [Int32Array.of(5, 6), '1+2='],
    [Int32Array.of(7), '3'],
    { temperature: 1, entropy: true },
  ],
  encode: (r, e) => [(p) => e.policy.encode(p), '1+2='],
  decode: (r, e) => [(t) => e.policy.decode(t), Int32Array.of(5, 6)],
  render: (r, e) => [(m) => e.policy.render(m), [{ role: 'user', content: 'x' }]],
};

module.exports = { GOOD, GOOD_ENGINE };
