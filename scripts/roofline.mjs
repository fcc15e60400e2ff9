// What limits each row kernel on an H200, predicted without one: node scripts/roofline.mjs [--json]
// Instructions come from the machine code (cuda-compile), bytes from the simulator. All numbers are predicted, none is measured here.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { SetupError, root } from './deps.mjs';
import { compileAll } from './cuda-compile.mjs';
import { runAsCommand } from './run.mjs';
import { H200, occupancy, perLogit, predict } from './cuda/model.mjs';

const TOKENS = 32768; // of the batch that the prediction is for
const VOCABULARIES = [32000, 50257, 128256, 151936, 262144];
const DTYPES = [
  { name: 'bf16', code: 1, bytes: 2, array: Uint16Array },
  { name: 'f32', code: 0, bytes: 4, array: Float32Array },
];
const ARCHITECTURES = ['sm_80', 'sm_90a'];
const SIMULATED_ROWS = 6;
const MOST_BYTES = 1.02; // times one read and one write
const LEAST_SLACK = 0.25; // of issue slots

function openSimulator() {
  const file = execFileSync(process.execPath, [join(root, 'scripts/simulator.mjs')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return createRequire(import.meta.url)(file.trim().split('\n').at(-1));
}

/** The native form of a LossConfig. */
function nativeLoss(config) {
  const file = join(root, 'dist', 'cjs', 'ops', 'config.js');
  if (!existsSync(file)) throw new SetupError('The TypeScript is not compiled.', 'npm run build:ts');
  return createRequire(import.meta.url)(file).lossArguments('roofline', config).native;
}

/** The core addon's flat arguments of a fused loss in place: on policy but for its clipping, no entropy. */
function lossArguments(dtype, vocab, rows, config) {
  const logits = new dtype.array(rows * vocab);
  for (let i = 0; i < logits.length; ++i) logits[i] = dtype.code === 0 ? (i % 97) / 16 - 3 : 0x3f80 + (i % 61);
  return {
    ...{ rows, sequences: 1, offsets: Int32Array.of(0, rows), targets: Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocab) },
    ...{ logits, dtype: dtype.code, vocab, rowStride: vocab, sequenceStride: 0 },
    ...{ gradLogits: logits, gradRowStride: vocab, gradSequenceStride: 0 },
    ...{ advantages: Float32Array.of(1), advantagesPerToken: false, oldLogps: new Float32Array(rows).fill(-10) },
    ...nativeLoss(config),
    entropy: false,
  };
}

/** Bytes of one fused loss by the simulator's count; the launch with the most of them is the row kernel's. */
function countBytes(simulator, arch, dtype, vocab, config, passes = 2) {
  simulator.configure({ seed: 1, arch: arch.replace('a', '') });
  simulator.lastLaunches();
  simulator.grpoLoss(lossArguments(dtype, vocab, SIMULATED_ROWS, config));
  const launches = simulator.lastLaunches();
  const total = (field) => launches.reduce((sum, l) => sum + l[field], 0);
  const moved = (l) => l.readBytes + l.writtenBytes;
  const rows = launches.reduce((a, b) => (moved(b) > moved(a) ? b : a));
  const least = passes * SIMULATED_ROWS * vocab * dtype.bytes;
  const all = total('readBytes') + total('writtenBytes');
  return { rows, overMinimum: all / least, overMinimumInL2: (all - total('rereadBytes')) / least, wide: rows.wideBytes / moved(rows) };
}

const baseName = (name) =>
  name
    .replace(/^[(&]+/, '')
    .replace(/<.*/s, '')
    .replace(/^.*::/, '')
    .trim();
const hasDtype = (kernel, dtype) => new RegExp(`<(.*[ ,])?${dtype.name}[,>]`).test(kernel.name);

/** The compiled kernels that a simulated launch may stand for; of several the one that costs most speaks. */
function compiledFor(kernels, arch, dtype, launch) {
  const candidates = kernels.filter((k) => k.arch === arch && baseName(k.name) === baseName(launch.kernel));
  const fitting = candidates.some((k) => hasDtype(k, dtype)) ? candidates.filter((k) => hasDtype(k, dtype)) : candidates;
  // a cluster kernel is compiled for so many threads and vectors a thread: the slice in shared memory tells which one ran
  const needed = launch.sharedBytes / 16 / launch.threads;
  const shapeOf = (k) => /, (\d+), (\d+), \d+>/.exec(k.name)?.slice(1).map(Number);
  const holds = fitting.filter((k) => shapeOf(k)?.[0] === launch.threads && shapeOf(k)[1] >= needed);
  const same = holds.sort((a, b) => shapeOf(a)[1] - shapeOf(b)[1]).slice(0, 1);
  const counted = (same.length ? same : fitting).map((kernel) => ({ kernel, cost: perLogit(kernel.parts) })).filter((c) => c.cost);
  return counted.sort((a, b) => b.cost.instructions - a.cost.instructions)[0] ?? null;
}

function examine(simulator, kernels, arch, dtype, vocab) {
  const bytes = countBytes(simulator, arch, dtype, vocab, { lossType: 'dapo' });
  const found = compiledFor(kernels, arch, dtype, bytes.rows);
  if (!found) throw new SetupError(`No compiled kernel for the launch '${bytes.rows.kernel}' on ${arch}.`, 'see npm run cuda:compile');
  const { kernel, cost } = found;
  const shared = bytes.rows.sharedBytes + kernel.shared;
  const moved = arch === 'sm_80' ? bytes.overMinimumInL2 : bytes.overMinimum;
  return {
    ...{ kernel: kernel.name, arch, dtype: dtype.name, vocab, threads: bytes.rows.threads, cluster: bytes.rows.cluster },
    ...{
      registers: kernel.registers,
      shared,
      resident: occupancy(arch, { registers: kernel.registers, threads: bytes.rows.threads, shared }),
    },
    ...{ instructions: cost.instructions, special: cost.special, wide: bytes.wide },
    ...{ bytes: bytes.overMinimum, bytesInL2: bytes.overMinimumInL2 },
    prediction: predict({ bytesPerLogit: 2 * dtype.bytes * moved, leastBytesPerLogit: 2 * dtype.bytes, ...cost }),
  };
}

function checksOf(row) {
  const what = `${row.arch} ${row.dtype} V=${row.vocab}`;
  const moved = row.arch === 'sm_80' ? row.bytesInL2 : row.bytes;
  const { limit, issueSlack } = row.prediction;
  return [
    {
      ok: moved <= MOST_BYTES,
      text: `${what}: bytes ${moved.toFixed(4)} x minimum${row.arch === 'sm_80' ? ' (second reads in L2)' : ''}, at most ${MOST_BYTES}`,
    },
    {
      ok: limit === 'memory' && issueSlack >= LEAST_SLACK,
      text: `${what}: ${limit} limits, ${(issueSlack * 100).toFixed(0)} % of issue slots free, at least ${LEAST_SLACK * 100} %`,
    },
  ];
}

/** The loss with sequence-level ratios: two reads and one write, of which sm_80 finds its third read in L2. */
function checkSequenceLevel(simulator, arch, dtype, vocab) {
  const config = { lossType: 'grpo', importanceSamplingLevel: 'sequence' };
  const bytes = countBytes(simulator, arch, dtype, vocab, config, 3);
  const moved = arch === 'sm_80' ? bytes.overMinimumInL2 : bytes.overMinimum;
  const text = `${arch} ${dtype.name} V=${vocab}, sequence level: bytes ${moved.toFixed(4)} x two reads and one write, at most ${MOST_BYTES}`;
  return { ok: moved <= MOST_BYTES, text };
}

const percent = (x) => `${(100 * x).toFixed(0)} %`;

function printTable(table) {
  const head = ['kernel', 'arch', 'V', 'threads', 'regs', 'shared', 'blocks/SM', 'instr/logit', 'special/logit', '16-byte', 'bytes/min'];
  const rows = [
    [...head, 'memory', 'issue', 'special', 'predicted'],
    ...table.map((r) => [
      ...[r.kernel, r.arch, r.vocab, r.cluster > 1 ? `${r.threads} x ${r.cluster}` : r.threads, r.registers, r.shared],
      ...[`${r.resident.blocks} (${r.resident.by})`, r.instructions.toFixed(1), r.special.toFixed(2), percent(r.wide), r.bytes.toFixed(3)],
      ...['memory', 'issue', 'special'].map((k) => percent(r.prediction.share[k])),
      `${(r.prediction.seconds[r.prediction.limit] * TOKENS * r.vocab * 1e3).toFixed(2)} ms`,
    ]),
  ].map((row) => row.map(String));
  const width = rows[0].map((_, c) => Math.max(...rows.map((r) => r[c].length)));
  for (const row of rows) console.log(row.map((cell, c) => (c < 2 ? cell.padEnd(width[c]) : cell.padStart(width[c]))).join('  '));
}

async function main(argv) {
  const results = await compileAll({ log: (text) => console.error(text) });
  const broken = results.find((r) => r.error);
  if (broken) throw new SetupError(`${broken.file} does not compile for ${broken.arch}:\n${broken.error}`, 'npm run cuda:compile');
  const kernels = results.flatMap((r) => r.kernels);
  const simulator = openSimulator();
  const table = ARCHITECTURES.flatMap((arch) =>
    DTYPES.flatMap((dtype) => VOCABULARIES.map((vocab) => examine(simulator, kernels, arch, dtype, vocab))),
  );
  const everywhere = (examined) => ARCHITECTURES.flatMap((arch) => DTYPES.map((dtype) => examined(arch, dtype)));
  const checks = [...table.flatMap(checksOf), ...everywhere((arch, dtype) => checkSequenceLevel(simulator, arch, dtype, 151936))];
  const failed = checks.filter((c) => !c.ok).length;
  if (argv.includes('--json'))
    console.log(JSON.stringify({ predicted: true, gpu: { name: 'H200', ...H200 }, tokens: TOKENS, table, checks }, null, 1));
  else {
    console.log(`Predicted for an H200, fused loss of ${TOKENS} rows; shares are of the resource that limits.`);
    printTable(table);
    for (const c of checks) console.log(`${c.ok ? 'ok    ' : 'FAILED'} ${c.text}`);
    console.log(`roofline: ${checks.length - failed} passed, ${failed} failed`);
  }
  process.exitCode = failed ? 1 : 0;
}

await runAsCommand(import.meta.url, main);
