// Why the scores of a reward model may have any scale and any zero, and why GRPO does not care while PPO does: node examples/reward-scale.mjs
// (docs/reward-model.md explains the numbers.)
import { gae, groupAdvantages, grpoLoss, preferenceLoss, valueLoss } from 'fused-grpo';

const scores = Float64Array.of(1.5, -0.5, 0.25, 2); // a reward model's, of four completions of one prompt
const shifted = scores.map((s) => s + 100);
const scaled = scores.map((s) => s * 10);
const show = (values) => Array.from(values, (v) => v.toFixed(4).padStart(10)).join('');
const apart = (a, b) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

console.log('The reward model is trained on differences alone: its loss for a pair, shifted by 100');
const loss = (by) => preferenceLoss({ chosenRewards: Float32Array.of(1.5 + by), rejectedRewards: Float32Array.of(-0.5 + by) }).loss;
console.log(`  ${loss(0).toFixed(6)}   ${loss(100).toFixed(6)}`);

console.log('GRPO, advantages of the group: (score - mean) / (std + eps)');
const advantages = (rewards, eps) => groupAdvantages(rewards, { numGenerations: 4, eps }).advantages;
console.log(`  scores        ${show(advantages(scores, 1e-4))}`);
console.log(`  scores + 100  ${show(advantages(shifted, 1e-4))}`);
console.log(`  scores * 10   ${show(advantages(scaled, 1e-4))}`);
const std = groupAdvantages(scores, { numGenerations: 4 }).std[0];
const none = (rewards) => groupAdvantages(rewards, { numGenerations: 4, scaleRewards: 'none' }).advantages[0];
console.log(`  * 10 multiplies them by ${(advantages(scaled, 1e-4)[0] / advantages(scores, 1e-4)[0]).toFixed(7)}`);
console.log(
  `  = (std + eps) / (std + eps / 10) = ${((std + 1e-4) / (std + 1e-5)).toFixed(7)}; with eps 0 the largest difference is ${apart(advantages(scores, 0), advantages(scaled, 0))}`,
);

console.log(
  `  scaleRewards 'none' (Dr. GRPO) divides by nothing: + 100 adds ${none(shifted) - none(scores)}, * 10 multiplies by ${none(scaled) / none(scores)}`,
);

console.log('GRPO, the update: largest difference between gradients of the logits, of a largest entry of');
const vocabSize = 5;
const logits = () => Float32Array.from({ length: 4 * 3 * vocabSize }, (_, i) => Math.sin(3 * i));
const targets = Int32Array.from({ length: 12 }, (_, i) => (2 * i) % vocabSize);
const update = (rewards) =>
  grpoLoss({ logits: logits(), vocabSize, targets, rewards: Float32Array.from(rewards), numGenerations: 4, completionLength: 3 }, {})
    .gradLogits;
const plain = update(scores);
console.log(
  `  ${Math.max(...plain.map(Math.abs)).toFixed(4)}: + 100: ${apart(plain, update(shifted)).toExponential(0)}, * 10: ${apart(plain, update(scaled)).toExponential(0)}`,
);

console.log('PPO, advantages of one completion of three tokens by a critic that knows the old scores (gae, lambda 0.95)');
const values = Float32Array.of(0.8, 1, 1.2);
const ppo = (score, critic = values) => gae({ rewards: Float32Array.of(0, 0, score), values: critic, completionLength: 3 });
console.log(`  score         ${show(ppo(1.5).advantages)}`);
console.log(`  score + 100   ${show(ppo(101.5).advantages)}`);
console.log(`  score * 10    ${show(ppo(15).advantages)}`);
const critic = (score) => valueLoss({ values, returns: ppo(score).returns, completionLength: 3 }).loss;
console.log(`  its own loss  ${show([critic(1.5), critic(101.5), critic(15)])}`);
console.log(
  `  + 100, once the critic has learnt it too${show(
    ppo(
      101.5,
      values.map((v) => v + 100),
    ).advantages,
  )}`,
);
