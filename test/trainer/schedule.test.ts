import { expect, test } from '@jest/globals';
import { learningRateAt } from '../../lib/trainer/schedule.js';

const at = (lrSchedulerType: 'linear' | 'cosine' | 'constant' | 'constant_with_warmup', step: number, warmupSteps = 0, warmupRatio = 0) =>
  learningRateAt({ learningRate: 1, lrSchedulerType, warmupSteps, warmupRatio }, step, 10);

// Values of transformers' get_scheduler(name, num_warmup_steps, num_training_steps=10): lr_lambda(step).
test.each([
  ['linear', 0, 0, 1],
  ['linear', 5, 0, 0.5],
  ['linear', 9, 0, 0.1],
  ['linear', 1, 4, 0.25],
  ['linear', 4, 4, 1],
  ['linear', 7, 4, 0.5],
  ['cosine', 5, 0, 0.5],
  ['cosine', 2, 0, 0.5 * (1 + Math.cos(0.2 * Math.PI))],
  ['constant', 3, 5, 1],
  ['constant_with_warmup', 0, 5, 0],
  ['constant_with_warmup', 3, 5, 0.6],
  ['constant_with_warmup', 8, 5, 1],
] as ['linear' | 'cosine' | 'constant' | 'constant_with_warmup', number, number, number][])(
  '%s at step %d with warm-up %d',
  (type, step, warmup, expected) => {
    expect(at(type, step, warmup)).toBeCloseTo(expected, 12);
  },
);

test('warmupRatio counts in steps of the whole run', () => {
  expect(at('linear', 1, 0, 0.3)).toBeCloseTo(1 / 3, 12);
});
