// Makes the demo's bundled model from nothing: random weights, then supervised training on arithmetic that stops early, so that there is
// something left for GRPO to teach. Recipe and seed are in RECIPE below and are written beside the weights (demo/model/RECIPE.json).
//   npm run build && node scripts/demo/make-model.mjs [output folder]
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const { Policy, SFTTrainer } = require('../../dist/cjs/index.js');
const { arithmeticProblems } = require('../../dist/cjs/demo/arithmetic.js');
const { accuracy } = require('../../dist/cjs/demo/evaluate.js');

const RECIPE = {
  seed: 7,
  architecture: { hidden_size: 96, intermediate_size: 256, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 4 },
  sft: {
    perDeviceTrainBatchSize: 128,
    learningRate: 2e-3,
    lrSchedulerType: 'constant_with_warmup',
    warmupSteps: 50,
    weightDecay: 0.01,
    maxSteps: 4000,
  },
  /** Training stops at the first check at which greedy held-out accuracy reaches this. */
  stopAt: 0.5,
  checkEvery: 10,
};
const CHARACTERS = [...'0123456789+='];
const EOS = 0;

/** Standard normal numbers from a seed (mulberry32 and Box-Muller). */
function* normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  for (;;) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    yield radius * Math.cos(angle);
    yield radius * Math.sin(angle);
  }
}

function config() {
  const a = RECIPE.architecture;
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    dtype: 'float32',
    vocab_size: CHARACTERS.length + 1,
    ...a,
    head_dim: a.hidden_size / a.num_attention_heads,
    hidden_act: 'silu',
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    initializer_range: 0.02,
    rope_parameters: { rope_theta: 10000, rope_type: 'default' },
    attention_bias: false,
    mlp_bias: false,
    attention_dropout: 0,
    tie_word_embeddings: true,
    bos_token_id: null,
    eos_token_id: EOS,
    pad_token_id: null,
    use_cache: true,
  };
}

/** Names and shapes of a tied Llama's tensors. */
function shapes({
  hidden_size: h,
  intermediate_size: f,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kv,
  vocab_size: v,
  head_dim: d,
}) {
  const list = [
    ['model.embed_tokens.weight', [v, h]],
    ['model.norm.weight', [h]],
  ];
  for (let i = 0; i < layers; ++i) {
    const p = `model.layers.${i}.`;
    list.push(
      [p + 'input_layernorm.weight', [h]],
      [p + 'post_attention_layernorm.weight', [h]],
      [p + 'self_attn.q_proj.weight', [heads * d, h]],
      [p + 'self_attn.k_proj.weight', [kv * d, h]],
      [p + 'self_attn.v_proj.weight', [kv * d, h]],
      [p + 'self_attn.o_proj.weight', [h, heads * d]],
      [p + 'mlp.gate_proj.weight', [f, h]],
      [p + 'mlp.up_proj.weight', [f, h]],
      [p + 'mlp.down_proj.weight', [h, f]],
    );
  }
  return list;
}

function writeRandomWeights(path, cfg) {
  const next = normals(RECIPE.seed);
  const header = {};
  const chunks = [];
  let at = 0;
  for (const [name, shape] of shapes(cfg)) {
    const n = shape.reduce((a, b) => a * b, 1);
    const fan = name.includes('embed') ? 0.02 : 1 / Math.sqrt(shape.at(-1));
    const scale = /(o_proj|down_proj)/.test(name) ? fan / Math.sqrt(2 * cfg.num_hidden_layers) : fan;
    const values = Float32Array.from({ length: n }, () => (name.includes('norm') ? 1 : scale * next.next().value));
    header[name] = { dtype: 'F32', shape, data_offsets: [at, (at += values.byteLength)] };
    chunks.push(Buffer.from(values.buffer));
  }
  const json = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, ...chunks]));
}

function tokenizer() {
  const vocab = Object.fromEntries([['<eos>', EOS], ...CHARACTERS.map((c, i) => [c, i + 1])]);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    added_tokens: [{ id: EOS, content: '<eos>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
}

function writeFolder(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const json = (name, value) => writeFileSync(join(folder, name), JSON.stringify(value, null, 2) + '\n');
  const cfg = config();
  json('config.json', cfg);
  json('generation_config.json', { eos_token_id: EOS });
  json('tokenizer.json', tokenizer());
  json('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: '<eos>',
    model_max_length: 64,
    clean_up_tokenization_spaces: false,
  });
  writeRandomWeights(join(folder, 'model.safetensors'), cfg);
}

const output = process.argv[2] ?? fileURLToPath(new URL('../../demo/model', import.meta.url));
const start = join(tmpdir(), `fused-grpo-demo-${process.pid}`);
writeFolder(start);
const policy = await Policy.load(start, { device: 'cpu' });
const { train, heldOut } = arithmeticProblems();
const trainer = new SFTTrainer({
  model: policy,
  trainDataset: train.map(({ prompt, answer }) => ({ prompt, completion: answer })),
  config: { ...RECIPE.sft, seed: RECIPE.seed },
});
let reached = 0;
let steps = 0;
for await (const { step, metrics } of trainer) {
  if (step % RECIPE.checkEvery !== 0) continue;
  reached = (await accuracy(policy, heldOut)).accuracy;
  steps = step;
  console.log(`step ${step}: loss ${metrics.loss.toFixed(3)}, held-out accuracy ${(100 * reached).toFixed(1)} %`);
  if (reached >= RECIPE.stopAt) break;
}
rmSync(output, { recursive: true, force: true });
await policy.save(output);
writeFileSync(
  join(output, 'RECIPE.json'),
  JSON.stringify(
    {
      madeBy: 'scripts/demo/make-model.mjs',
      ...RECIPE,
      stepsMade: steps,
      heldOutAccuracy: reached,
      package: JSON.parse(readFileSync(new URL('../../package.json', import.meta.url))).version,
    },
    null,
    2,
  ) + '\n',
);
rmSync(start, { recursive: true });
console.log(`Wrote ${output}: held-out accuracy ${(100 * reached).toFixed(1)} % after ${steps} steps.`);
