// Iterative GRPO with a reward model (DeepSeekMath, arXiv 2402.03300, algorithm 1) on the bundled model, about a minute on two cores:
//   1. the policy answers; answers are compared (here by a program that knows the truth: in earnest by people or a judge)
//   2. a reward model learns from the comparisons, and in later rounds goes on with fresh ones and a tenth of old ones
//   3. GRPO maximises the reward model; reference := policy at the beginning of each round
//
//     npm run build && node examples/iterative.mjs [rounds]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GRPOTrainer, Policy, RewardModel, RewardTrainer, withReplay } from 'fused-grpo';

const rounds = Number(process.argv[2] ?? 2);
const runs = mkdtempSync(join(tmpdir(), 'iterative-'));
const bundled = new URL('../demo/model', import.meta.url).pathname;
const rows = Array.from({ length: 4000 }, (_, i) => [(i * 37) % 90, (i * 53) % 97]).map(([a, b]) => ({
  prompt: `${a}+${b}=`,
  answer: `${a + b}`,
}));
const [train, heldOut] = [rows.slice(300), rows.slice(0, 300)];

/** Right answers of a policy, greedy. */
async function accuracy(folder) {
  const policy = await Policy.load(folder);
  const { completions } = await policy.generate(
    heldOut.map((r) => r.prompt),
    { maxNewTokens: 5, temperature: 0 },
  );
  policy.dispose();
  return completions.filter((c) => c.text.trim() === heldOut[c.promptIndex].answer).length / heldOut.length;
}

/** Pairs of a right and a wrong answer to one prompt, as the policy gives them now. */
async function comparisons(folder, seed) {
  const policy = await Policy.load(folder);
  const { completions } = await policy.generate(
    train.map((r) => r.prompt),
    { maxNewTokens: 5, numGenerations: 6, seed },
  );
  policy.dispose();
  return train.flatMap(({ prompt, answer }, i) => {
    const texts = [...new Set(completions.slice(6 * i, 6 * i + 6).map((c) => c.text))];
    const chosen = texts.find((t) => t.trim() === answer);
    return chosen ? texts.filter((t) => t !== chosen).map((rejected) => ({ prompt, chosen, rejected })) : [];
  });
}

let policy = bundled;
let judge = bundled; // a language model gets a scalar head
const history = [];
console.log(`before: ${(100 * (await accuracy(policy))).toFixed(1)} % right`);
for (let round = 1; round <= rounds; ++round) {
  const fresh = await comparisons(policy, round);
  const pairs = withReplay(fresh, history, { fraction: 0.1, seed: round });
  history.push(...fresh);
  const reward = new RewardTrainer({
    model: judge,
    trainDataset: pairs,
    config: {
      outputDir: join(runs, `reward-${round}`),
      perDeviceTrainBatchSize: 32,
      learningRate: 3e-4,
      numTrainEpochs: round === 1 ? 10 : 3,
      saveSteps: 0,
    },
  });
  const learnt = await reward.train();
  reward.dispose();
  judge = join(runs, `reward-${round}`, 'model');

  const model = await RewardModel.load(judge);
  const grpo = new GRPOTrainer({
    model: policy, // and therefore the reference
    rewardFuncs: model,
    trainDataset: train,
    config: {
      outputDir: join(runs, `policy-${round}`),
      maxSteps: 60,
      perDeviceTrainBatchSize: 256,
      maxCompletionLength: 5,
      learningRate: 2e-4,
      beta: 0.05,
      saveSteps: 0,
    },
  });
  await grpo.train();
  grpo.dispose();
  model.dispose();
  policy = join(runs, `policy-${round}`, 'model');
  console.log(
    `round ${round}: ${fresh.length} comparisons, ${pairs.length - fresh.length} old ones among them; ` +
      `reward model ${(100 * learnt.metrics.accuracy).toFixed(0)} % of its last pairs; policy ${(100 * (await accuracy(policy))).toFixed(1)} % right`,
  );
}
rmSync(runs, { recursive: true });
