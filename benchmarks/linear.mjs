// linearGrpoLoss against its three matrix products alone, in the same chunks, and against the whole logits.
// node benchmarks/linear.mjs [--tokens 512] [--width 576] [--vocab 49152] [--dtype float32,bfloat16] [--rounds 5] [--workspace 268435456] [--json]
// Interleaved, medians. "extra": peak resident memory during the op beyond what its inputs and results take.
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const { grpoLoss, linearGrpoLoss, Tensor } = require('../dist/cjs/index.js');
const { tensorOps } = require('../dist/cjs/engine/tensor.js');

const { values: options } = parseArgs({
  options: {
    tokens: { type: 'string', default: '512' },
    width: { type: 'string', default: '576' },
    vocab: { type: 'string', default: '49152' },
    dtype: { type: 'string', default: 'float32,bfloat16' },
    rounds: { type: 'string', default: '5' },
    workspace: { type: 'string', default: String(2 ** 28) },
    json: { type: 'boolean', default: false },
  },
});
const [N, H, V] = [Number(options.tokens), Number(options.width), Number(options.vocab)];
const workspaceBytes = Number(options.workspace);

const noise = (n, scale) => Float32Array.from({ length: n }, (_, i) => scale * Math.sin(i * 12.9898 + (i % 7919)));
const median = (x) => [...x].sort((a, b) => a - b)[x.length >> 1];

async function timed(op) {
  const start = process.hrtime.bigint();
  await op();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

async function bench(dtype) {
  const hidden = Tensor.from(noise(N * H, 1), [N, H], { dtype });
  const weight = Tensor.from(noise(V * H, 0.05), [V, H], { dtype });
  const gradHidden = Tensor.from(new Float32Array(N * H), [N, H], { dtype });
  const gradWeight = Tensor.from(new Float32Array(V * H), [V, H]);
  const logits = Tensor.from(new Float32Array(N * V), [N, V], { dtype });
  const token = {
    targets: Int32Array.from({ length: N }, (_, i) => (i * 7919) % V),
    oldLogps: new Float32Array(N).fill(-10),
    advantages: Float32Array.of(1, -1),
    completionLength: N / 2,
  };
  const products = { hidden, weight, gradHidden, gradWeight, workspaceBytes };
  const native = Object.fromEntries(Object.entries(products).map(([k, v]) => [k, v instanceof Tensor ? v.native : v]));
  const ops = {
    'three products': () => tensorOps().linearProducts(native).promise,
    linearGrpoLoss: () => linearGrpoLoss({ hidden, weight, gradWeight, ...token }, { workspaceBytes }),
    'linearGrpoLoss, GSPO': () =>
      linearGrpoLoss({ hidden, weight, gradWeight, ...token }, { workspaceBytes, lossType: 'grpo', importanceSamplingLevel: 'sequence' }),
    'loss on whole logits alone': () => grpoLoss({ logits, vocabSize: V, ...token }),
  };
  const times = Object.fromEntries(Object.keys(ops).map((name) => [name, []]));
  for (let round = -1; round < Number(options.rounds); ++round)
    for (const [name, op] of Object.entries(ops)) {
      const took = await timed(op);
      if (round >= 0) times[name].push(took);
    }
  for (const t of [hidden, weight, gradHidden, gradWeight, logits]) t.dispose();
  const least = median(times['three products']);
  return Object.entries(times).map(([name, t]) => ({ name, median: median(t), best: Math.min(...t), perProducts: median(t) / least }));
}

for (const dtype of options.dtype.split(',')) {
  const rows = await bench(dtype);
  if (options.json) console.log(JSON.stringify({ dtype, tokens: N, width: H, vocab: V, workspaceBytes, rows }));
  else {
    console.log(`${dtype}, ${N} tokens, width ${H}, V ${V}, workspace ${(workspaceBytes / 2 ** 20).toFixed(0)} MB`);
    for (const { name, median: m, best, perProducts } of rows)
      console.log(
        `  ${name.padEnd(28)} ${m.toFixed(1).padStart(8)} ms median ${best.toFixed(1).padStart(8)} ms best ${perProducts.toFixed(2).padStart(6)} x the products`,
      );
  }
}
process.exit(0); // the ops' thread would keep the process for a while
