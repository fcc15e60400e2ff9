// One rank of a test run. argv: the built library, then the job as JSON: { trainer, options, config, step?, misbehave? }.
// Prints a JSON line for each step, and { error } when it fails.
const [library, text] = process.argv.slice(2);
const api = require(library);
const job = JSON.parse(text);
const rank = Number(process.env.RANK ?? 0);
const own = job.ranks?.[rank] ?? {};

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const sums = Array.from({ length: 40 }, (_, i) => ({ prompt: `${10 + i}+${7 + 3 * i}=`, answer: String(17 + 4 * i) }));
const rewards = {
  sum: ({ completions, answer }) => completions.map((c, i) => (c.trim().startsWith(answer[i]) ? 1 : 0) + c.length * 0.01),
  length: ({ completions }) => completions.map((c) => c.length * 0.1),
  broken: ({ completions, trainerState }) => {
    if (trainerState.step === 2 && rank === 1) throw new Error('no more luck');
    return completions.map((c) => c.length);
  },
  slow: async ({ completions }) => {
    if (rank === 1) await new Promise((resolve) => setTimeout(resolve, 2500));
    return completions.map((c) => c.length);
  },
};

const data = {
  grpo: () => sums,
  ppo: () => sums,
  sft: () => sums.map(({ prompt, answer }) => ({ prompt, completion: answer })),
  reward: () => sums.map(({ prompt, answer }) => ({ prompt, chosen: answer, rejected: String(Number(answer) + 1) })),
};

async function main() {
  const kind = job.trainer ?? 'grpo';
  const Trainer = { grpo: api.GRPOTrainer, ppo: api.PPOTrainer, sft: api.SFTTrainer, reward: api.RewardTrainer }[kind];
  const rows = data[kind]().slice(own.skipRows ?? 0);
  const options = {
    model: own.model ?? job.model,
    trainDataset: rows,
    config: { ...job.config, ...own.config },
    ...(kind === 'grpo' || kind === 'ppo' ? { rewardFuncs: rewards[own.reward ?? job.reward ?? 'sum'] } : {}),
    ...(job.servers ? { rollout: api.openAICompatible(job.servers) } : {}),
    ...(job.evaluate ? { evalDataset: rows.slice(0, 5) } : {}),
  };
  const trainer = new Trainer(options);
  for await (const { step, metrics } of trainer) {
    say({ step, metrics });
    if (own.at === step && own.signal) process.kill(process.pid, own.signal);
    if (own.leave === step) process.exit(3);
  }
  trainer.dispose();
}

main().catch((error) => {
  say({ error: error.message, code: error.code });
  process.exitCode = 1;
});
