// Ordinary use: it must compile as it stands, in every module system.
import {
  GRPOTrainer,
  Policy,
  Tensor,
  gae,
  groupAdvantages,
  grpoLoss,
  informativeGroups,
  linearGrpoLoss,
  policyLoss,
  presets,
  processAdvantages,
  rewardsWithKl,
  selectiveLogp,
  selectiveLogpBackward,
  valueLoss,
  type GRPOConfig,
  type GrpoLossBatch,
  type GrpoLossConfig,
  type LogitsDtype,
  type LossConfig,
  type LossType,
  type PolicyBatch,
  type RewardFn,
} from 'fused-grpo';

const logits = new Float32Array(8);
const bits = new Uint16Array(8);
const targets = new Int32Array(4);
const logps = new Float32Array(4);
const advantages = Float32Array.of(1, -1);
const rows = { logits, vocabSize: 2, targets };

// entropies are there when they were asked for
const asked: Float32Array = selectiveLogp({ ...rows, entropy: true }).entropies;
const notAsked: undefined = selectiveLogp(rows).entropies;
const maybe: Float32Array | undefined = selectiveLogp({ ...rows, entropy: Math.random() < 0.5 }).entropies;
const always: Float32Array = grpoLoss({ ...rows, advantages, completionLength: 2 }).entropies;
const off: undefined = grpoLoss({ ...rows, advantages, completionLength: 2 }, { entropy: false }).entropies;

// half precision; a class that is known only when the program runs
selectiveLogp({ logits: bits, dtype: 'bfloat16', vocabSize: 2, targets });
const any: Float32Array | Uint16Array = Math.random() < 0.5 ? logits : bits;
const dtype: LogitsDtype = any === logits ? 'float32' : 'bfloat16';
selectiveLogpBackward({ logits: any, dtype, vocabSize: 2, targets, gradLogps: logps });

// the gradient's class is that of the logits
const gradient32: Float32Array = grpoLoss({ ...rows, advantages, completionLength: 2 }).gradLogits;
const half = { logits: bits, dtype: 'bfloat16', vocabSize: 2, targets } as const;
const gradient16: Uint16Array = grpoLoss({ ...half, advantages, completionLength: 2 }, { inPlace: false }).gradLogits;
const backward32: Float32Array = selectiveLogpBackward({ ...rows, gradLogps: logps }).gradLogits;
const backward16: Uint16Array = selectiveLogpBackward({ ...half, gradLogps: logps }).gradLogits;
const either: Float32Array | Uint16Array = grpoLoss({
  logits: any,
  dtype,
  vocabSize: 2,
  targets,
  advantages,
  completionLength: 2,
}).gradLogits;

// a beta that is not 0 comes with refLogps; what only the running program knows is checked then
policyLoss({ logps, refLogps: logps, advantages, completionLength: 2 }, { beta: 0.04 });
policyLoss({ logps, advantages, completionLength: 2 }, { beta: Math.random() });
grpoLoss({ ...rows, advantages, refLogps: logps, completionLength: 2 }, presets.grpo);
grpoLoss({ ...rows, advantages, completionLength: 2 }, { beta: 0 });

// layouts and groups, either way
policyLoss({ logps, advantages, completionLength: 2 });
policyLoss({ logps, advantages, offsets: Int32Array.of(0, 1, 4) });
groupAdvantages([1, 0], { numGenerations: 2 });
groupAdvantages(new Float64Array(2), { groupOffsets: Int32Array.of(0, 2), scaleRewards: 'none' });
grpoLoss({ ...rows, rewards: [1, 0], numGenerations: 2, completionLength: 2 }, { epsilonHigh: 0.28 }).groups?.zeroStd;
informativeGroups(groupAdvantages([1, 0], { numGenerations: 2 }), { numGenerations: 2 });
rewardsWithKl({ rewards: [1], logps, refLogps: logps, completionLength: 4 }, { beta: 0.1 });
gae({ rewards: logps, values: logps, completionLength: 2 }, { lambda: 1 });
valueLoss({ values: logps, returns: logps, offsets: Int32Array.of(0, 4) });
processAdvantages({
  stepRewards: [1],
  stepEnds: Int32Array.of(3),
  stepOffsets: Int32Array.of(0, 1),
  completionLength: 4,
  numGenerations: 1,
});

// a configuration step by step, as a variable, from presets
const config: LossConfig = {};
config.lossType = 'cispo';
config.epsilonHigh = 5;
policyLoss({ logps, advantages, completionLength: 2 }, config);
const whole: GrpoLossConfig = { ...config, inPlace: false };
grpoLoss({ ...rows, advantages, completionLength: 2 }, whole);
grpoLoss({ ...rows, advantages, completionLength: 2 }, { ...presets.gspo, temperature: 0.9 });
grpoLoss({ ...rows, advantages, completionLength: 2 }, { ...presets.drGrpo, maxCompletionLength: 512 });
grpoLoss({ ...rows, advantages, completionLength: 2 }, presets.cispo);
for (const lossType of ['dapo', 'gmpo', 'sapo'] as LossType[])
  policyLoss({ logps, advantages, completionLength: 2 }, { lossType, beta: 0 });
policyLoss({ logps, advantages, completionLength: 2 }, { lossType: 'cispo', epsilonHigh: 5 });
policyLoss({ logps, advantages, completionLength: 2 }, { lossType: 'dr_grpo', normalizer: 8 });
policyLoss({ logps, advantages, completionLength: 2 }, { lossType: 'luspo', importanceSamplingLevel: 'sequence', delta: 2 });

// a batch that is put together, and handed on
function padded(batch: PolicyBatch): PolicyBatch {
  return { ...batch, mask: new Uint8Array(4) };
}
const batch: GrpoLossBatch = { ...rows, ...padded({ completionLength: 2 }), advantages };
grpoLoss(batch);
grpoLoss({ ...batch, refLogps: logps }, { beta: 0.04 });

// the engine
export async function engine(): Promise<void> {
  const tensor = Tensor.from(bits, [4, 2], { dtype: 'bfloat16' });
  const result = await grpoLoss({ logits: tensor, vocabSize: 2, targets, advantages, completionLength: 2 });
  const gradient: Tensor = result.gradLogits;
  await grpoLoss({ logits: tensor, vocabSize: 2, targets, advantages, refLogps: tensor, completionLength: 2 }, { beta: 0.04 });
  const entropies: Float32Array = (await selectiveLogp({ logits: gradient, vocabSize: 2, targets, entropy: true })).entropies;
  await linearGrpoLoss(
    { hidden: tensor, weight: tensor, targets, rewards: [1, 0], numGenerations: 2, completionLength: 2 },
    { frozenHead: true },
  );
  const policy = await Policy.load('model', { dtype: 'float32' });
  const { completions } = await policy.generate(['x', Int32Array.of(1), [{ role: 'user', content: 'y' }]], { topK: 5, stop: '\n' });
  const scored: Float32Array[] = (await policy.score(['x'], completions, { entropy: true })).entropies;
  const plain: undefined = (await policy.score(['x'], completions)).entropies;
  const rewardFuncs: RewardFn = ({ completions: texts, answer }) =>
    texts.map((text, i) => (String(text) === (answer as string[])[i] ? 1 : null));
  const settings: GRPOConfig = { ...presets.dapo, numGenerations: 4 };
  settings.maxSteps = 3;
  const trainer = new GRPOTrainer({ model: 'model', rewardFuncs, trainDataset: [{ prompt: 'x', answer: 'y' }], config: settings });
  for await (const { step, metrics } of trainer) console.log(step, metrics.reward, entropies, scored, plain);
}

export const used = [asked, notAsked, maybe, always, off, gradient32, gradient16, backward32, backward16, either];
