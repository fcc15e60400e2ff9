// Held-out accuracy and time of RewardTrainer and TRL's on the same pairs, from the same initial model, over seeds of the data's order:
//   FUSED_GRPO_PEERS_PYTHON=python node benchmarks/reward.mjs [steps] [seeds]
// The preferences follow known utilities: each digit of a string is worth a fixed amount. The two sides take turns; order of the data differs
// (each shuffles by itself), so single seeds differ and means are to be compared.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RewardTrainer } from 'fused-grpo';

const here = dirname(fileURLToPath(import.meta.url));
const { ScalarModel } = createRequire(import.meta.url)('../dist/cjs/engine/scalar-model.js');
const [steps = 60, seeds = 5] = process.argv.slice(2).map(Number);
const [batch, learningRate, threads] = [32, 5e-4, cpus().length];

const WORTH = [0.9, -1.3, 0.4, 1.7, -0.6, 0.1, -1.9, 1.2, -0.2, 0.7];
let state = 1;
const random = () => (state = (state * 48271) % 2147483647) / 2147483647; // MINSTD
const text = () => Array.from({ length: 4 + Math.floor(random() * 6) }, () => Math.floor(random() * 10)).join('');
const worth = (t) => [...t].reduce((sum, digit) => sum + WORTH[digit], 0);
function pair() {
  for (;;) {
    const [a, b] = [text(), text()];
    const by = worth(a) - worth(b);
    if (Math.abs(by) >= 0.5) return by > 0 ? { chosen: a, rejected: b } : { chosen: b, rejected: a };
  }
}

const folder = mkdtempSync(join(tmpdir(), 'fused-grpo-reward-'));
const write = (name, n) => {
  writeFileSync(join(folder, name), Array.from({ length: n }, () => JSON.stringify(pair()) + '\n').join(''));
  return join(folder, name);
};

async function ours({ model, train, test, seed }) {
  const config = { maxSteps: steps, perDeviceTrainBatchSize: batch, learningRate, seed, saveSteps: 0 };
  const trainer = new RewardTrainer({ model, trainDataset: train, evalDataset: test, config });
  let seconds = 0;
  let last;
  for await (const { metrics } of trainer) {
    last = metrics;
    seconds += metrics.seconds.train + metrics.seconds.optimizer;
  }
  trainer.dispose();
  return { accuracy: last.evalAccuracy, loss: last.evalLoss, seconds };
}

function theirs(options) {
  const python = process.env.FUSED_GRPO_PEERS_PYTHON ?? 'python3';
  const given = JSON.stringify({ ...options, steps, batch, learningRate, threads });
  const out = execFileSync(python, [join(here, 'peers', 'trl_reward.py'), given], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return JSON.parse(out.trim().split('\n').at(-1));
}

try {
  const data = { train: write('train.jsonl', 2000), test: write('test.jsonl', 2000) };
  const all = { ours: [], TRL: [] };
  for (let seed = 1; seed <= seeds; ++seed) {
    const model = join(folder, `model-${seed}`);
    const initial = await ScalarModel.load(join(here, '../demo/model'), { newHead: { seed } });
    await initial.save(model);
    initial.dispose();
    all.ours.push(await ours({ model, ...data, seed }));
    all.TRL.push(theirs({ model, ...data, seed }));
  }
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  console.log(`${steps} steps of ${batch} pairs, ${seeds} seeds, learning rate ${learningRate}; held-out: 2000 pairs`);
  for (const [name, runs] of Object.entries(all)) {
    const of = (key) => runs.map((run) => run[key]);
    const list = of('accuracy').map((v) => v.toFixed(4));
    console.log(
      `${name.padEnd(5)} accuracy ${mean(of('accuracy')).toFixed(4)} (${list.join(' ')})  loss ${mean(of('loss')).toFixed(4)}  ${mean(of('seconds')).toFixed(2)} s`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
