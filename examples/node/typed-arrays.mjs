// GRPO without any framework: the policy is a table of logits in a Float32Array, and the three ops that grpoLoss is made of are called
// one by one, as a trainer does that has to do something between them.
//
//     node examples/node/typed-arrays.mjs
import assert from 'node:assert/strict';
import { groupAdvantages, policyLoss, selectiveLogp, selectiveLogpBackward } from 'fused-grpo';
import {
  adam,
  FEATURES,
  LENGTH,
  mean,
  NUM_GENERATIONS,
  placeOf,
  randomNumbers,
  rewardsOf,
  ROWS,
  sampleTokens,
  train,
  VOCAB,
} from './task.mjs';

const random = randomNumbers(1);
const table = new Float32Array(FEATURES * VOCAB); // one row of logits for each prompt and position
const update = adam(table, 0.1);
const logits = new Float32Array(ROWS * VOCAB); // of a step; its gradient will lie in the same memory
const gradient = new Float32Array(table.length);

await train('typed arrays', 100, () => {
  for (let row = 0; row < ROWS; ++row) logits.set(table.subarray(placeOf(row) * VOCAB, (placeOf(row) + 1) * VOCAB), row * VOCAB);
  const targets = sampleTokens(logits, random);
  const rewards = rewardsOf(targets);

  const { advantages } = groupAdvantages(rewards, { numGenerations: NUM_GENERATIONS });
  const { logps, lse } = selectiveLogp({ logits, vocabSize: VOCAB, targets });
  const { gradLogps } = policyLoss({ logps, advantages, completionLength: LENGTH }, { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 });
  const { gradLogits } = selectiveLogpBackward({ logits, vocabSize: VOCAB, targets, lse, gradLogps });
  assert.ok(gradLogits.buffer === logits.buffer, 'the gradient was written where the logits were');

  gradient.fill(0);
  gradLogits.forEach((g, i) => (gradient[placeOf(Math.floor(i / VOCAB)) * VOCAB + (i % VOCAB)] += g));
  update(gradient);
  return mean(rewards);
});
