// Instructions of the row kernels per logit, counted by valgrind: they do not depend on the machine's mood, so a change that costs
// is seen in every test run. AVX-512 cannot be counted so (valgrind does not know it); its speed is the benchmark's business.
//   node scripts/instructions.mjs [--update]
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './deps.mjs';
import { CXX } from './objects.mjs';

const EXPECTED = join(root, 'benchmarks/instructions.json');
const VOCAB = 8192;
const [FEW, MANY] = [2, 6];
/** Compilers of one version still differ a little between distributions. */
export const BOUND = 1.05;

/** The compiler's major version: another one's counts are not comparable. */
const compiler = () => `${execFileSync(CXX, ['-dumpversion'], { encoding: 'utf8' }).trim().split('.')[0]}`;

function build() {
  const folder = join(root, 'build-instructions');
  mkdirSync(folder, { recursive: true });
  const sources = readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/);
  const binary = join(folder, 'driver');
  const flags = ['-std=c++20', '-O3', '-ffp-contract=off', '-fno-math-errno', '-Inative'];
  execFileSync(CXX, [...flags, 'test/cost/driver.cc', ...sources, '-o', binary], { cwd: root, stdio: 'inherit' });
  return binary;
}

function count(binary, simd, op, dtype, rows) {
  const args = ['--tool=callgrind', '--callgrind-out-file=/dev/null', binary, op, dtype, String(rows), String(VOCAB)];
  const { status, stderr } = spawnSync('valgrind', args, { encoding: 'utf8', env: { ...process.env, FUSED_GRPO_SIMD: simd } });
  const found = /Collected\s*:\s*(\d+)/.exec(stderr ?? '');
  if (status !== 0 || !found) throw new Error(`valgrind did not count ${op} ${dtype} ${simd}:\n${stderr}`);
  return Number(found[1]);
}

/** Why nothing can be counted here, or undefined. */
export function unavailable() {
  if (process.arch !== 'x64') return 'the counts are of x86-64';
  if (spawnSync('valgrind', ['--version']).status !== 0) return 'valgrind is not installed';
  const { compiler: wanted } = JSON.parse(readFileSync(EXPECTED, 'utf8'));
  return wanted === compiler() ? undefined : `the counts are of GCC ${wanted}, ${CXX} is of version ${compiler()}`;
}

/** Instructions per logit: of the difference between six rows and two (starting a process does not count), without making them. */
export function measure() {
  const binary = build();
  const perRow = (simd, op, dtype) => (count(binary, simd, op, dtype, MANY) - count(binary, simd, op, dtype, FEW)) / (MANY - FEW);
  const perLogit = {};
  for (const dtype of ['float32', 'bfloat16']) {
    const rows = perRow('portable', 'nothing', dtype);
    for (const simd of ['avx2', 'portable'])
      for (const op of ['grpoLoss', 'selectiveLogp'])
        perLogit[`${op} ${dtype} ${simd}`] = Math.round(((perRow(simd, op, dtype) - rows) / VOCAB) * 1000) / 1000;
  }
  return perLogit;
}

/** { name, wanted, now, ok } of each count. */
export function check() {
  const { perLogit: wanted } = JSON.parse(readFileSync(EXPECTED, 'utf8'));
  return Object.entries(measure()).map(([name, now]) => ({ name, wanted: wanted[name], now, ok: now <= wanted[name] * BOUND }));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (process.argv.includes('--update')) {
    writeFileSync(EXPECTED, JSON.stringify({ compiler: compiler(), vocab: VOCAB, perLogit: measure() }, null, 1) + '\n');
  }
  const reason = unavailable();
  if (reason) console.log(`nothing counted: ${reason}`);
  else for (const { name, wanted, now, ok } of check()) console.log(`${ok ? 'ok    ' : 'MORE  '} ${name.padEnd(32)} ${now} (${wanted})`);
}
