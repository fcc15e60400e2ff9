// What must not compile. A line that does is an error: "Unused '@ts-expect-error' directive".
import { Policy, gae, groupAdvantages, grpoLoss, informativeGroups, linearGrpoLoss, passAtKAdvantages, policyLoss, presets, processAdvantages, rewardsWithKl, selectiveLogp, type Tensor } from 'fused-grpo'; // prettier-ignore

const logits = new Float32Array(8);
const targets = new Int32Array(4);
const logps = new Float32Array(4);
const advantages = Float32Array.of(1, -1);
const rows = { logits, vocabSize: 2, targets };
const batch = { logps, advantages, completionLength: 2 };

// @ts-expect-error bits of half precision: which?
selectiveLogp({ logits: new Uint16Array(8), vocabSize: 2, targets });
// @ts-expect-error float64 is no dtype of logits
selectiveLogp({ ...rows, dtype: 'float64' });
// @ts-expect-error no vocabSize
selectiveLogp({ logits, targets });
// @ts-expect-error targets are an Int32Array
selectiveLogp({ ...rows, targets: [1, 2] });
// @ts-expect-error sequenceStride needs to know the sequences
selectiveLogp({ ...rows, sequenceStride: 8 });
// @ts-expect-error not asked for
selectiveLogp(rows).entropies.length;
// @ts-expect-error may not have been asked for
selectiveLogp({ ...rows, entropy: Math.random() < 0.5 }).entropies.length;
// @ts-expect-error switched off
grpoLoss({ ...rows, ...batch, logps: undefined }, { entropy: false }).entropies.length;

// @ts-expect-error no layout
policyLoss({ logps, advantages });
// @ts-expect-error both layouts
policyLoss({ logps, advantages, completionLength: 2, offsets: Int32Array.of(0, 2, 4) });
// @ts-expect-error no advantages
policyLoss({ logps, completionLength: 2 });
// @ts-expect-error both layouts
gae({ rewards: logps, values: logps, completionLength: 2, offsets: Int32Array.of(0, 4) });
// @ts-expect-error no refLogps
rewardsWithKl({ rewards: [1], logps, completionLength: 4 }, { beta: 0.1 });
// @ts-expect-error no beta
rewardsWithKl({ rewards: [1], logps, refLogps: logps, completionLength: 4 }, {});

// @ts-expect-error no groups
groupAdvantages([1, 0], {});
// @ts-expect-error both groups
groupAdvantages([1, 0], { numGenerations: 2, groupOffsets: Int32Array.of(0, 2) });
// @ts-expect-error a slip
groupAdvantages([1, 0], { numGenerations: 2, scaleReward: 'none' });
// @ts-expect-error no k
passAtKAdvantages([1, 0], { numGenerations: 2 });
// @ts-expect-error no groups
informativeGroups(new Uint8Array(2), {});
// @ts-expect-error no layout
processAdvantages({ stepRewards: [1], stepEnds: targets, stepOffsets: targets, numGenerations: 1 });

// @ts-expect-error rewards without groups
grpoLoss({ ...rows, rewards: [1, 0], completionLength: 2 });
// @ts-expect-error rewards and advantages
grpoLoss({ ...rows, rewards: [1, 0], numGenerations: 2, advantages, completionLength: 2 });
// @ts-expect-error groups of what?
grpoLoss({ ...rows, advantages, numGenerations: 2, completionLength: 2 });
// @ts-expect-error neither
grpoLoss({ ...rows, completionLength: 2 });
// @ts-expect-error a slip in the batch
grpoLoss({ ...rows, advantages, completionLength: 2, maks: new Uint8Array(4) });
// @ts-expect-error a slip in the configuration
grpoLoss({ ...rows, advantages, completionLength: 2 }, { epsilonhigh: 0.28 });

// @ts-expect-error beta without refLogps
policyLoss(batch, { beta: 0.04 });
// @ts-expect-error beta without refLogps
grpoLoss({ ...rows, advantages, completionLength: 2 }, { lossType: 'dapo', beta: 0.04 });
// @ts-expect-error the preset has a beta
grpoLoss({ ...rows, advantages, completionLength: 2 }, presets.grpo);
// @ts-expect-error the gradient of float32 logits
grpoLoss({ ...rows, advantages, completionLength: 2 }).gradLogits satisfies Uint16Array;

// @ts-expect-error cispo needs its bound
policyLoss(batch, { lossType: 'cispo' });
// @ts-expect-error dr_grpo divides by a length
policyLoss(batch, { lossType: 'dr_grpo' });
// @ts-expect-error the preset leaves it to you
grpoLoss({ ...rows, advantages, completionLength: 2 }, presets.drGrpo);
// @ts-expect-error luspo is for sequences
policyLoss(batch, { lossType: 'luspo' });
// @ts-expect-error gmpo has its own weight of a token
policyLoss(batch, { lossType: 'gmpo', importanceSamplingLevel: 'sequence' });
// @ts-expect-error no clipped ratio to bound
policyLoss(batch, { lossType: 'reinforce', delta: 2 });
// @ts-expect-error no such loss
policyLoss(batch, { lossType: 'ppo' });

export async function engine(policy: Policy, tensor: Tensor): Promise<void> {
  // @ts-expect-error not asked for
  (await policy.score(['x'], ['y'])).entropies.length;
  // @ts-expect-error beta without refLogps
  await grpoLoss({ logits: tensor, vocabSize: 2, targets, advantages, completionLength: 2 }, { beta: 0.04 });
  // @ts-expect-error beta without refLogps
  await linearGrpoLoss({ hidden: tensor, weight: tensor, targets, advantages, completionLength: 2 }, { beta: 0.04 });
  // @ts-expect-error one text is no list
  await policy.generate('x');
  // @ts-expect-error private
  new Policy();
}
