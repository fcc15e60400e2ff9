// One rank of a test run. argv: the built library, then the job as JSON (support.ts).
// Prints a JSON line for each step and for each loop's end, and { error } when it fails.
const [library, text] = process.argv.slice(2);
const api = require(library);
const { Training } = require(library.replace('index.js', 'engine/training.js'));
const job = JSON.parse(text);
if (job.nccl) {
  const ranks = require(library.replace('index.js', 'distributed/ranks.js'));
  const { joinRanks } = ranks;
  ranks.joinRanks = (options) => joinRanks({ ...options, ncclOnly: true });
}
const rank = Number(process.env.RANK ?? 0);
const own = job.ranks?.[rank] ?? {};

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const sums = Array.from({ length: 40 }, (_, i) => ({ prompt: `${10 + i}+${7 + 3 * i}=`, answer: String(17 + 4 * i) }));
const lengths = (completions) => completions.map((c) => c.length);
const sum = ({ completions, answer }) => completions.map((c, i) => (c.trim().startsWith(answer[i]) ? 1 : 0) + c.length * 0.01);
let broken = false;
const rewards = {
  sum,
  length: ({ completions }) => completions.map((c) => c.length * 0.1),
  broken: ({ completions, trainerState }) => {
    if (trainerState.step === 2 && rank === 1) throw new Error('no more luck');
    return lengths(completions);
  },
  // Like sum, but the first time.
  brokenOnce: (input) => {
    if (input.trainerState.step === 2 && rank === 1 && !broken) {
      broken = true;
      throw new Error('no luck once');
    }
    return sum(input);
  },
  slow: async ({ completions }) => {
    if (rank === 1) await new Promise((resolve) => setTimeout(resolve, 2500));
    return lengths(completions);
  },
};

const data = {
  grpo: () => sums,
  ppo: () => sums,
  sft: () => sums.map(({ prompt, answer }) => ({ prompt, completion: answer })),
  reward: () => sums.map(({ prompt, answer }) => ({ prompt, chosen: answer, rejected: String(Number(answer) + 1) })),
};

function make(more) {
  const kind = job.trainer ?? 'grpo';
  const Trainer = { grpo: api.GRPOTrainer, ppo: api.PPOTrainer, sft: api.SFTTrainer, reward: api.RewardTrainer }[kind];
  const rows = data[kind]().slice(own.skipRows ?? 0);
  return new Trainer({
    model: own.model ?? job.model,
    trainDataset: own.data ?? rows,
    config: { ...job.config, ...own.config, ...more },
    ...(kind === 'grpo' || kind === 'ppo' ? { rewardFuncs: rewards[own.reward ?? job.reward ?? 'sum'] } : {}),
    ...(job.servers ? { rollout: api.openAICompatible(job.servers) } : {}),
    ...(job.evaluate ? { evalDataset: own.evalData ?? rows.slice(0, 5) } : {}),
  });
}

async function loop(trainer, of) {
  for await (const { step, metrics } of trainer) {
    say({ step, metrics, of });
    if (own.at === step && own.signal) process.kill(process.pid, own.signal);
    if (own.leave === step) process.exit(own.exit ?? 3);
    if (own.throw === step) throw new Error('no more of this');
    if (own.break === step) break;
    if (own.dispose === step) {
      trainer.dispose();
      await new Promise((resolve) => setTimeout(resolve, 2000)); // with something else
    }
  }
  say({ end: true, of });
}

/** A step of its own. */
async function meddle(training) {
  const tokens = Int32Array.of(1, 2, 3, 4);
  const batch = { tokens, offsets: Int32Array.of(0, 4), promptLengths: Int32Array.of(1), advantages: Float32Array.of(1) };
  await training.accumulate(batch, { normalizer: 1 }, { microBatchTokens: 100, fused: true });
  const adamw = { weightDecay: 0, adamBeta1: 0.9, adamBeta2: 0.999, adamEpsilon: 1e-8, maxGradNorm: 1 };
  await training.optimizerStep({ learningRate: 0.1, ...adamw });
}

const failed = (error) => say({ error: error.message, code: error.code });

/** What is done with trainers. */
const plans = {
  once: async () => {
    const trainer = make();
    await loop(trainer);
    trainer.dispose();
  },
  again: async () => {
    const trainer = make();
    await loop(trainer, 'first').catch(failed);
    if (own.meddle) await meddle(new Training(trainer.policy));
    await loop(trainer, 'second').catch(failed);
    trainer.dispose();
  },
  inTurn: async () => {
    await loop(make(), 'first');
    await loop(make({ seed: 7 }), 'second');
  },
  sideBySide: async () => void (await Promise.all([loop(make(), 'first'), loop(make({ seed: 7 }), 'second')])),
};

plans[job.plan ?? 'once']().catch((error) => {
  failed(error);
  process.exitCode = 1;
});
