// The cost model of docs/scaling.md: predictions, and what it is checked against.
//   node benchmarks/scaling.mjs               predictions for large machines, as the page has them
//   node benchmarks/scaling.mjs --measure     steps at 1 to 4 ranks on this machine, against the model; writes benchmarks/scaling.json
//   node benchmarks/scaling.mjs --page        both tables into docs/scaling.md
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { memoryOfRank, stepCost } from './scaling-model.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..');
const RESULTS = join(here, 'scaling.json');
const PAGE = join(root, 'docs/scaling.md');

const MODEL = { hidden: 256, layers: 6, heads: 8, kvHeads: 8, headDim: 32, intermediate: 688, vocab: 4096 };
const RUN = { completions: 24, promptLength: 32, completionLength: 64, numGenerations: 4, weightBytes: 4 };

/** A Llama with random weights; its words are those of the bundled model, and ids beyond them never matter. */
function makeModel(folder) {
  const { hidden: H, layers, intermediate: I, vocab } = MODEL;
  const shapes = [['model.embed_tokens.weight', [vocab, H]], ['model.norm.weight', [H]]]; // prettier-ignore
  for (let l = 0; l < layers; ++l) {
    const at = (name, ...shape) => shapes.push([`model.layers.${l}.${name}.weight`, shape]);
    for (const name of ['q', 'k', 'v', 'o']) at(`self_attn.${name}_proj`, H, H);
    for (const name of ['gate', 'up']) at(`mlp.${name}_proj`, I, H);
    at('mlp.down_proj', H, I);
    for (const name of ['input_layernorm', 'post_attention_layernorm']) at(name, H);
  }
  let [offset, state] = [0, 1];
  const header = {};
  const data = shapes.map(([name, shape]) => {
    const count = shape.reduce((a, b) => a * b);
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += 4 * count)] };
    return Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return shape.length === 1 ? 1 : (state / 2 ** 31) * 0.05;
    });
  });
  const text = JSON.stringify(header);
  const head = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, head, ...data.map((d) => Buffer.from(d.buffer))]));
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({
      ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', vocab_size: vocab, hidden_size: H, intermediate_size: I },
      ...{ num_hidden_layers: layers, num_attention_heads: MODEL.heads, num_key_value_heads: MODEL.kvHeads, rms_norm_eps: 1e-5 },
      ...{ max_position_embeddings: 512, rope_theta: 10000, hidden_act: 'silu', tie_word_embeddings: true, torch_dtype: 'float32' },
      ...{ bos_token_id: 1, eos_token_id: vocab - 1 },
    }),
  );
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) copyFileSync(join(root, 'demo/model', name), join(folder, name));
  return offset / 4;
}

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** One rank: prints the metrics of its steps. */
const RANK = `
const { GRPOTrainer } = require(process.argv[1]);
const { model, config, prompt } = JSON.parse(process.argv[2]);
(async () => {
  const rows = Array.from({ length: 64 }, (_, i) => ({ prompt: (String(i) + '+').repeat(prompt).slice(0, prompt - 1) }));
  const rewardFuncs = ({ completionTokens }) => completionTokens.map((t) => t.reduce((a, b) => a + (b % 7), 0));
  const trainer = new GRPOTrainer({ model, rewardFuncs, trainDataset: rows, config });
  for await (const { metrics } of trainer) if ((process.env.RANK || '0') === '0') console.log(JSON.stringify(metrics));
  trainer.dispose();
})();`;

async function steps(model, ranks, more = {}) {
  const port = await freePort();
  const { completions, numGenerations, promptLength, completionLength: maxCompletionLength } = RUN;
  const config = {
    perDeviceTrainBatchSize: completions / ranks,
    numGenerations,
    maxCompletionLength,
    maxSteps: 9,
    learningRate: 0,
    ...more,
  };
  const job = JSON.stringify({ model, config, prompt: promptLength });
  const outputs = await Promise.all(
    Array.from({ length: ranks }, (_, rank) => {
      const env = { ...process.env, OMP_NUM_THREADS: '1', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port) };
      Object.assign(env, ranks > 1 ? { RANK: String(rank), WORLD_SIZE: String(ranks) } : { RANK: '', WORLD_SIZE: '' });
      const child = spawn(process.execPath, ['-e', RANK, join(root, 'dist/cjs/index.js'), job], {
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let out = '';
      child.stdout.on('data', (chunk) => (out += chunk));
      return new Promise((resolve, reject) =>
        child.once('close', (code) => (code === 0 ? resolve(out) : reject(new Error(`rank ${rank} ended with ${code}`)))),
      );
    }),
  );
  return outputs[0].trim().split('\n').map(JSON.parse).slice(2); // the first steps warm up
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const of = (all, get) => median(all.map(get));

const phases = (all) => ({
  ...Object.fromEntries(['generate', 'train', 'optimizer', 'total'].map((name) => [name, of(all, (m) => m.seconds[name])])),
  length: of(all, (m) => m.completionLength.mean),
  bytes: of(all, (m) => m.ranks?.bytes ?? 0),
  waiting: of(all, (m) => m.ranks?.waiting ?? 0),
  exchanging: of(all, (m) => m.ranks?.exchanging ?? 0),
});

async function measure() {
  const folder = mkdtempSync(join(tmpdir(), 'fg-scaling-'));
  try {
    const parameters = makeModel(folder);
    const measured = {};
    for (const ranks of [1, 2, 3, 4]) measured[ranks] = phases(await steps(folder, ranks));
    measured['2 sharded'] = phases(await steps(folder, 2, { shardOptimizer: true }));
    const cores = availableParallelism();
    const result = {
      machine: `${cpus()[0].model}, ${cores} cores, one thread a rank`,
      cores,
      parameters,
      run: { ...RUN, ...MODEL },
      measured,
    };
    writeFileSync(RESULTS, JSON.stringify(result, null, 1) + '\n');
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The model's terms from one rank (how fast it computes) and two (how fast they exchange); the rest is prediction. */
function fitted({ measured, parameters, run, cores }) {
  const shape = { ...run, parameters, completionLength: measured[1].length };
  const perRank = (phase, flop) => flop / measured[1][phase];
  const tokens = shape.completions * (shape.completionLength + shape.promptLength / shape.numGenerations);
  const machine = {
    trainFlops: perRank('train', 6 * parameters * tokens),
    generateFlops: perRank('generate', 2 * parameters * shape.completions * shape.completionLength),
    memoryBandwidth: (28 * parameters) / measured[1].optimizer,
    latency: 3e-4,
    bandwidth: Infinity,
  };
  const exchanged = stepCost(shape, machine, 2);
  machine.bandwidth = exchanged.reducedBytes / Math.max(1e-6, measured[2].exchanging - exchanged.exchange);
  return { shape, machine, cores };
}

const ms = (seconds) => (seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0);
const table = (head, rows) => [head, head.map(() => '---:'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

function measuredTable(result) {
  const { shape, machine, cores } = fitted(result);
  const rows = [1, 2, 3, 4].map((ranks) => {
    const crowd = Math.max(1, ranks / cores); // ranks share cores
    const cost = stepCost(shape, machine, ranks);
    const m = result.measured[ranks];
    const predicted = (cost.generate + cost.train) * crowd + cost.optimizer * crowd + cost.exchange + cost.gather;
    const share = m.exchanging / m.total;
    return [ranks, ms(predicted), ms(m.total), `${(result.measured[1].total / m.total).toFixed(2)}`, (m.bytes / 1e6).toFixed(1), ms(m.waiting), ms(m.exchanging), `${(100 * share).toFixed(1)} %`]; // prettier-ignore
  });
  const s = result.measured['2 sharded'];
  rows.push(['2, sharded', '', ms(s.total), (result.measured[1].total / s.total).toFixed(2), (s.bytes / 1e6).toFixed(1), ms(s.waiting), ms(s.exchanging), `${((100 * s.exchanging) / s.total).toFixed(1)} %`]); // prettier-ignore
  const head = [
    'ranks',
    'predicted, ms',
    'measured, ms',
    'times one rank',
    'MB handed over',
    'waiting, ms',
    'exchange not hidden, ms',
    'of the step',
  ];
  const { trainFlops, generateFlops, bandwidth } = machine;
  const fit = `${(result.parameters / 1e6).toFixed(1)} M parameters, ${result.machine}; from one rank: ${(trainFlops / 1e9).toFixed(0)} GFLOP/s in training, ${(generateFlops / 1e9).toFixed(0)} in generation; from two: ${(bandwidth / 1e9).toFixed(1)} GB/s between ranks.`;
  return `${fit}\n\n${table(head, rows)}`;
}

const GPU = { trainFlops: 3.5e14, generateFlops: 2e14, memoryBandwidth: 3.3e12, hidden: 0.8 };
const PREDICTIONS = [
  ['8 GPUs, one machine', 8, { ...GPU, bandwidth: 3.5e11, latency: 1e-5 }],
  ['8 machines of 8', 64, { ...GPU, bandwidth: 4e10, latency: 3e-5 }],
  ['100 machines of 8', 800, { ...GPU, bandwidth: 4e10, latency: 3e-5 }],
];
const SEVEN = { parameters: 7.6e9, weightBytes: 2, numGenerations: 8, promptLength: 512, completionLength: 4096, layers: 28, kvHeads: 4, headDim: 128 }; // prettier-ignore

function predictedTable() {
  const rows = PREDICTIONS.map(([name, ranks, machine]) => {
    const run = { ...SEVEN, completions: 64 * ranks, shardOptimizer: true };
    const cost = stepCost(run, machine, ranks);
    const memory = Object.values(memoryOfRank(run, ranks)).reduce((a, b) => a + b, 0);
    return [name, cost.generate.toFixed(0), cost.train.toFixed(0), cost.exchange.toFixed(2), cost.gather.toFixed(2), `${((100 * (cost.exchange + cost.gather)) / cost.total).toFixed(1)} %`, `${(cost.tokensPerSecond / 1e3).toFixed(0)} k`, (memory / 1e9).toFixed(0)]; // prettier-ignore
  });
  return table(['', 'generate, s', 'train, s', 'exchange, s', 'gather, s', 'communication', 'tokens/s', 'GB a rank'], rows);
}

/** Text between two marks of the page. */
function put(page, mark, text) {
  const [begin, end] = [`<!-- ${mark} -->`, `<!-- end of ${mark} -->`];
  return page.slice(0, page.indexOf(begin) + begin.length) + `\n\n${text}\n\n` + page.slice(page.indexOf(end));
}

const args = process.argv.slice(2);
const result = args.includes('--measure') ? await measure() : JSON.parse(readFileSync(RESULTS, 'utf8'));
console.log(`${measuredTable(result)}\n\n${predictedTable()}`);
if (args.includes('--page'))
  writeFileSync(PAGE, put(put(readFileSync(PAGE, 'utf8'), 'measured', measuredTable(result)), 'predicted', predictedTable()));
