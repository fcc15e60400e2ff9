// One run of the comparison, in a process of its own (peak memory): node benchmarks/algorithms-run.mjs JSON; prints one line of JSON.
import { createRequire } from 'node:module';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const require = createRequire(import.meta.url);
const from = (path) => require(`../dist/cjs/${path}.js`);
const { GRPOTrainer, PPOTrainer, Policy } = from('index');
const { arithmeticProblems, correctAnswer } = from('demo/arithmetic');
const { accuracy } = from('demo/evaluate');
const { demoModel } = from('demo/lesson');
const { Training } = from('engine/training');
const { minibatch, toBatch, trainedTokens } = from('trainer/batch');
const { resolveGRPOConfig } = from('trainer/config');
const { Critic } = from('trainer/critic');
const { stepLoss } = from('trainer/loss');
const { resolvePPOConfig } = from('trainer/ppo-config');
const { nameRewards } = from('trainer/rewards');
const { drawRollout } = from('trainer/rollout');

const now = () => performance.now() / 1000;
/** Of all threads: the measure that a busy machine disturbs least. */
const cpu = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
const peakRssBytes = () => process.resourceUsage().maxRSS * 1024;

/** The demo's task until so many tokens have been generated; time is that of training alone. */
async function learn({ ppo, config, seed, tokenBudget, evaluations }) {
  const { train, heldOut } = arithmeticProblems();
  const Trainer = ppo ? PPOTrainer : GRPOTrainer;
  const trainer = new Trainer({
    model: demoModel(),
    rewardFuncs: correctAnswer,
    trainDataset: train,
    config: { ...config, seed, saveSteps: 0, dtype: 'float32' },
  });
  const [curve, held] = [[], []];
  let [tokens, seconds, cpuSeconds, steps] = [0, 0, 0, 0];
  let begin = [now(), cpu()];
  for await (const { metrics } of trainer) {
    seconds += now() - begin[0];
    cpuSeconds += cpu() - begin[1];
    steps++;
    if (metrics.seconds.generate > 0) {
      tokens += Math.round(metrics.completionLength.mean * config.perDeviceTrainBatchSize);
      curve.push([tokens, metrics.reward]);
    }
    const last = tokens >= tokenBudget && steps % (config.numIterations ?? 1) === 0;
    if (last || tokens >= ((held.length + 1) * tokenBudget) / evaluations)
      held.push([tokens, (await accuracy(trainer.policy, heldOut)).accuracy, cpuSeconds]);
    if (last) break;
    begin = [now(), cpu()];
  }
  const peak = peakRssBytes();
  trainer.dispose();
  return { seed, steps, tokens, seconds, cpuSeconds, curve, heldOut: held, accuracy: held.at(-1)[1], peakRssBytes: peak };
}

/** SmolLM2-135M's shape, with weights that were drawn. */
const SMOL = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 576,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  head_dim: 64,
  intermediate_size: 1536,
  vocab_size: 49152,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  bos_token_id: 1,
  eos_token_id: 2,
};

function smolTensors() {
  const { hidden_size: h, intermediate_size: m, vocab_size: v, num_hidden_layers: layers } = SMOL;
  const kv = SMOL.num_key_value_heads * SMOL.head_dim;
  const shapes = { 'model.embed_tokens.weight': [v, h], 'model.norm.weight': [h] };
  for (let i = 0; i < layers; ++i) {
    const at = `model.layers.${i}.`;
    for (const name of ['input_layernorm', 'post_attention_layernorm']) shapes[`${at}${name}.weight`] = [h];
    Object.assign(shapes, { [`${at}self_attn.q_proj.weight`]: [h, h], [`${at}self_attn.o_proj.weight`]: [h, h] });
    for (const name of ['k_proj', 'v_proj']) shapes[`${at}self_attn.${name}.weight`] = [kv, h];
    for (const name of ['gate_proj', 'up_proj']) shapes[`${at}mlp.${name}.weight`] = [m, h];
    shapes[`${at}mlp.down_proj.weight`] = [h, m];
  }
  return shapes;
}

/** Writes the made-up model: bfloat16 from a table of normal numbers of deviation 0.02; norms are 1. */
function makeSmol(folder) {
  mkdirSync(folder, { recursive: true });
  const shapes = smolTensors();
  let [end, state] = [0, 12345];
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const bits = (x) => new Uint32Array(Float32Array.of(x).buffer)[0] >>> 16;
  const normal = () => 0.02 * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const table = Uint16Array.from({ length: 65536 }, () => bits(normal()));
  const header = {};
  for (const [name, shape] of Object.entries(shapes)) {
    const begin = end;
    end += 2 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: 'BF16', shape, data_offsets: [begin, end] };
  }
  const data = new Uint16Array(end / 2);
  for (const [name, { shape, data_offsets: at }] of Object.entries(header)) {
    const part = data.subarray(at[0] / 2, at[1] / 2);
    if (shape.length === 1) part.fill(bits(1));
    else for (let i = 0; i < part.length; ++i) part[i] = table[Math.floor(random() * 65536)];
    if (part.length === 0) throw new Error(`${name} is empty`);
  }
  const text = Buffer.from(JSON.stringify(header).padEnd(16384));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, text, Buffer.from(data.buffer)]));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(SMOL));
  return { parameters: data.length };
}

/** Any reward that differs will do: the share of even token ids. */
const evenTokens = ({ completionTokens }) => completionTokens.map((t) => t.filter((id) => id % 2 === 0).length / t.length);

/** Seconds and memory of whole steps (one rollout and all optimizer steps on it) of a model, every completion at its full length. */
async function step({ model, ppo, config, promptLength, rollouts }) {
  const c = ppo ? resolvePPOConfig(config) : resolveGRPOConfig(config);
  const signal = new AbortController().signal;
  const policy = await Policy.load(model, { dtype: 'float32' });
  const reference = c.beta > 0 ? await policy.clone() : undefined;
  const critic = ppo ? new Critic(c, undefined, signal) : undefined;
  await critic?.open(policy);
  const training = new Training(policy);
  const context = { policy, reference, rewards: nameRewards(evenTokens), config: c, critic, signal, ignoreEos: true };
  const laps = [];
  for (let index = 0; index <= rollouts; ++index) {
    const prompts = Array.from({ length: c.rolloutCompletions / c.numGenerations }, (_, i) =>
      Int32Array.from({ length: promptLength }, (_v, t) => 3 + ((7919 * (index * 64 + i) + 104729 * t) % (policy.vocabSize - 3))),
    );
    const begin = [now(), cpu()];
    const rows = prompts.map((prompt) => ({ prompt }));
    const rollout = await drawRollout(context, rows, index, c.numIterations > 1, { step: index, totalSteps: rollouts + 1, epoch: 0 });
    for (let k = 0; k < c.numIterations; ++k, rollout.used++) {
      const chosen = minibatch(rollout, c);
      const loss = stepLoss(c, trainedTokens(rollout, chosen, c), chosen.length);
      await training.accumulate(toBatch(rollout, chosen, c), loss, { microBatchTokens: c.microBatchTokens, fused: true });
      await critic?.accumulate(rollout, chosen, { microBatchTokens: c.microBatchTokens, signal });
      await training.optimizerStep(c);
      await critic?.step(c.learningRate);
    }
    if (index > 0) laps.push({ total: now() - begin[0], cpuSeconds: cpu() - begin[1], ...rollout.seconds }); // the first one also makes the moments
  }
  const tokens = c.rolloutCompletions * c.maxCompletionLength;
  const best = laps.reduce((a, b) => (a.total < b.total ? a : b));
  return {
    seconds: best.total,
    cpuSeconds: best.cpuSeconds,
    generateSeconds: best.generate,
    scoreSeconds: best.score,
    tokens,
    peakRssBytes: peakRssBytes(),
  };
}

const TASKS = { learn, makeSmol: ({ folder }) => makeSmol(folder), step };
const job = JSON.parse(process.argv[2]);
console.log(JSON.stringify(await TASKS[job.task](job)));
