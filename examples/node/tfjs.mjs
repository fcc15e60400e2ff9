// GRPO on a TensorFlow.js model: grpoLoss becomes one differentiable op by tf.customGrad, and tf.train.adam does the rest. This is
// @tensorflow/tfjs, plain JavaScript: its tensors are typed arrays, which grpoLoss reads and overwrites as they lie. (tfjs-node downloads
// its native part while it is installed, from elsewhere than npm; it keeps tensors in TensorFlow's memory, so that dataSync() copies.)
//
//     npm install @tensorflow/tfjs && node examples/node/tfjs.mjs
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs';
import { grpoLoss } from 'fused-grpo';
import {
  FEATURES,
  HIDDEN,
  inputs,
  LENGTH,
  mean,
  NUM_GENERATIONS,
  randomNumbers,
  rewardsOf,
  ROWS,
  sampleTokens,
  train,
  VOCAB,
  weights,
} from './task.mjs';

await tf.setBackend('cpu');
const random = randomNumbers(1);
const w1 = tf.variable(tf.tensor(weights(FEATURES * HIDDEN, 1, random), [FEATURES, HIDDEN]));
const w2 = tf.variable(tf.tensor(weights(HIDDEN * VOCAB, 0.1, random), [HIDDEN, VOCAB]));
const x = tf.tensor(inputs(), [ROWS, FEATURES]);
const optimizer = tf.train.adam(0.02);
let rewards;

/** Samples from the logits, rewards, and gives the loss as a scalar with its gradient. */
const grpo = tf.customGrad((logits) => {
  const data = logits.dataSync(); // the tensor's own memory: see the assertion below
  const targets = sampleTokens(data, random);
  rewards = rewardsOf(targets);
  const batch = { logits: data, vocabSize: VOCAB, targets, rewards, numGenerations: NUM_GENERATIONS, completionLength: LENGTH };
  // In place: nothing reads the logits any more, as the gradient of a product needs its factors only.
  const { loss, gradLogits } = grpoLoss(batch, { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 });
  assert.ok(gradLogits.buffer === data.buffer, 'the gradient was written where the logits were');
  assert.ok(logits.dataSync().buffer === gradLogits.buffer, 'and those were the memory of the tensor');
  const gradFunc = (dy) => {
    const gradient = tf.tensor(gradLogits, [ROWS, VOCAB]);
    assert.ok(gradient.dataSync().buffer === gradLogits.buffer, 'TensorFlow.js reads the gradient as it lies');
    return dy.dataSync()[0] === 1 ? gradient : tf.mul(gradient, dy); // 1 unless the loss is part of a larger one
  };
  return { value: tf.scalar(loss), gradFunc };
});

await train('TensorFlow.js', 150, () => {
  const loss = optimizer.minimize(() => grpo(tf.matMul(tf.tanh(tf.matMul(x, w1)), w2)), true);
  loss.dispose();
  return mean(rewards);
});
