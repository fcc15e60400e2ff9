// grpoLoss against one copy of its logits by the same threads, and against the unfused libtorch forward + backward.
// node benchmarks/loss.mjs [--losses gspo,cispo] [--tokens 512] [--vocab 151936] [--rounds 7] [--dtype float32,bfloat16] [--unfused] [--json]
// Interleaved (copy, op, copy, op, ...), medians; the copy refills the logits, so that every round sees the same numbers.
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const require = createRequire(import.meta.url);
const { core, engine } = require('../dist/cjs/native.js');
const { grpoLoss, presets, selectiveLogp } = require('../dist/cjs/index.js');
const { grpoArguments } = require('../dist/cjs/ops/grpo_loss.js');

const { values: options } = parseArgs({
  options: {
    tokens: { type: 'string', default: '512' },
    vocab: { type: 'string', default: '151936' },
    rounds: { type: 'string', default: '7' },
    dtype: { type: 'string', default: 'float32,bfloat16' },
    unfused: { type: 'boolean', default: false },
    losses: { type: 'string', default: '' }, // further losses, by the names of presets
    json: { type: 'boolean', default: false },
  },
});
const T = Number(options.tokens);
const V = Number(options.vocab);
const rounds = Number(options.rounds);

/** xorshift: logits as a trained model has them, most mass on few columns. */
function fill(logits, bf16) {
  let s = 0x9e3779b9;
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  for (let i = 0; i < logits.length; ++i) {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    float[0] = ((s >>> 0) / 2 ** 32) * 16 - 8;
    logits[i] = bf16 ? (bits[0] + 0x8000) >>> 16 : float[0];
  }
}

function time(f) {
  const start = process.hrtime.bigint();
  const own = f(); // an op may time itself
  return typeof own === 'number' ? own : Number(process.hrtime.bigint() - start) / 1e6;
}
const median = (x) => [...x].sort((a, b) => a - b)[x.length >> 1];
const best = (x) => Math.min(...x);

/** Forward and backward by libtorch, without our copy of the gradient. */
function unfused(batch, config) {
  const { native } = grpoArguments(batch, { ...config, inPlace: false });
  return () => engine().unfusedGrpoLoss(native).milliseconds;
}

function bench(dtype) {
  const bf16 = dtype !== 'float32';
  const make = () => (bf16 ? new Uint16Array(T * V) : new Float32Array(T * V));
  const source = make();
  const logits = make();
  fill(source, bf16);
  const bytes = (a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
  const targets = Int32Array.from({ length: T }, (_, i) => (i * 7919) % V);
  const oldLogps = new Float32Array(T).fill(-9);
  const batch = { logits, dtype, vocabSize: V, targets, oldLogps, advantages: new Float32Array([1, -1]), completionLength: T / 2 };
  const rows = { logits, dtype, vocabSize: V, targets };
  const ops = {
    grpoLoss: () => grpoLoss(batch),
    'grpoLoss without entropy': () => grpoLoss(batch, { entropy: false }),
    'selectiveLogp with entropy': () => selectiveLogp({ ...rows, entropy: true }),
    selectiveLogp: () => selectiveLogp(rows),
  };
  if (options.unfused) ops['unfused libtorch'] = unfused({ ...batch, logits: source }, {});
  for (const name of options.losses.split(',').filter(Boolean)) {
    if (!presets[name]) throw new Error(`No preset '${name}': one of ${Object.keys(presets).join(', ')}`);
    const config = { ...presets[name], beta: 0, maxCompletionLength: T / 2, maskTruncatedCompletions: false };
    ops[`grpoLoss ${name}`] = () => grpoLoss(batch, config);
    if (options.unfused) ops[`unfused ${name}`] = unfused({ ...batch, logits: source }, config);
  }
  const times = { copy: [], ...Object.fromEntries(Object.keys(ops).map((name) => [name, []])) };
  let extra = 0;
  for (let round = -1; round < rounds; ++round) {
    for (const [name, op] of Object.entries(ops)) {
      const copied = time(() => core().copy(bytes(logits), bytes(source)));
      const before = process.memoryUsage().rss;
      const took = time(op);
      if (name === 'grpoLoss') extra = Math.max(extra, round < 0 ? 0 : process.memoryUsage().rss - before);
      if (round >= 0) (times.copy.push(copied), times[name].push(took));
    }
  }
  const copy = median(times.copy);
  const result = { dtype, tokens: T, vocab: V, simd: core().simd(), threads: core().threads(), extraMemory: extra / source.byteLength };
  result.rows = Object.entries(times).map(([name, t]) => ({ name, median: median(t), best: best(t), perCopy: median(t) / copy }));
  return result;
}

for (const dtype of options.dtype.split(',')) {
  const r = bench(dtype);
  if (options.json) {
    console.log(JSON.stringify(r));
    continue;
  }
  console.log(
    `${r.dtype}, T ${r.tokens}, V ${r.vocab}, ${r.simd}, ${r.threads} threads; extra memory ${(100 * r.extraMemory).toFixed(2)} % of the logits`,
  );
  for (const { name, median: m, best: b, perCopy } of r.rows)
    console.log(
      `  ${name.padEnd(28)} ${m.toFixed(1).padStart(8)} ms median ${b.toFixed(1).padStart(8)} ms best ${perCopy.toFixed(2).padStart(6)} copies`,
    );
}
