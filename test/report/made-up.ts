// A run that never happened, for tests and for looking at the report.
import type { ReportSamples, ReportStep } from '../../lib/report/types.js';

/** A small generator, so that every test sees the same "noise". */
export function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export function madeUpSteps(count: number): ReportStep[] {
  const random = noise(7);
  return Array.from({ length: count }, (_, i) => {
    const t = i / Math.max(1, count - 1);
    const reward = 0.2 + 0.7 / (1 + Math.exp(-10 * (t - 0.45))) + 0.12 * (random() - 0.5);
    const total = 1.2 + 0.3 * random();
    return {
      step: i + 1,
      epoch: t * 3,
      loss: 0.02 * (random() - 0.5),
      reward,
      rewardQuantiles: { min: 0, q25: reward / 2, median: reward, q75: (1 + reward) / 2, max: 1 },
      rewardStd: 0.35 * (1 - t * 0.8) + 0.03 * random(),
      rewards: { correct: { mean: reward * 0.9, std: 0.3 }, format: { mean: Math.min(1, 0.5 + t + 0.1 * random()), std: 0.1 } },
      fracRewardZeroStd: Math.min(1, 0.1 + 0.5 * t + 0.1 * random()),
      kl: 0.04 * t + 0.004 * random(),
      entropy: 1.4 - 0.9 * t + 0.1 * random(),
      clipRatio: { low: 0.004 * random(), high: 0.01 * random(), region: 0.012 },
      ratio: { min: 0.7, mean: 1, max: 1.4 },
      completionLength: { mean: 40 - 20 * t + 4 * random(), min: 4, max: 64 - 20 * t },
      truncated: 0.2 * (1 - t) * random(),
      learningRate: 1e-4 * Math.min(1, i / (0.1 * count)) * (1 - t),
      gradNorm: 0.5 + 0.5 * random() + (i % 37 === 0 ? 1.5 : 0),
      tokens: 3000,
      tokensPerSecond: 3000 / total,
      seconds: { generate: total * 0.55, reward: 0.02, score: total * 0.08, train: total * 0.3, optimizer: total * 0.05, total },
      peakMemoryBytes: 612e6,
    };
  });
}

const PROMPTS = ['What is 17 + 26?', 'Tom has 3 bags with 4 apples each. How many apples?', 'What is 9 * 8 - 5?'];

export function madeUpSamples(steps: readonly number[]): ReportSamples[] {
  return steps.map((step, k) => ({
    step,
    groups: PROMPTS.map((prompt, g) => ({
      prompt,
      rewards: Array.from({ length: 8 }, (_, i) => (i <= k + g ? 1 : i === 7 ? null : i / 20)),
    })),
    samples: Array.from({ length: 6 }, (_, i) => {
      const good = i <= k;
      return {
        prompt: PROMPTS[i % 3]!,
        completion: good
          ? `<think>Let me see & add: 17 + 26 = 43.</think>\nThe answer is **${40 + i}**.`
          : 'I am not sure about that, the the the number is maybe '.repeat(i + 1),
        reward: good ? 1 : i / 20,
        advantage: good ? 0.8 : -0.7,
        finishReason: good ? ('stop' as const) : ('length' as const),
      };
    }),
  }));
}
