// Seeded bugs (scripts/mutants/), each applied to a copy of the package: does a test notice? node scripts/mutants.mjs [--only TEXT] [--resume]
// By hand only: about 20 s a mutant. Writes test/mutants.json and test/MUTANTS.md, with the test that failed for each.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { version } from './addons/place.cjs';
import { root } from './deps.mjs';
import { formulas } from './mutants/formulas.mjs';
import { plumbing } from './mutants/plumbing.mjs';
import { runAsCommand } from './run.mjs';

const results = join(root, 'test', 'mutants.json');
const COPIED = ['lib', 'native', 'test', 'scripts', 'package.json', 'tsconfig.json', 'jest.config.cjs', 'binding.gyp', 'docs'];
/** The quickest to notice first; each list is one run of jest. */
const CPU_TESTS = [
  ['test/ops/advantages', 'test/ops/expected_gradient', 'test/ops/errors', 'test/ops/sequence'],
  ['test/ops/peer_goldens', 'test/ops/formula'],
  ['test/ops', 'test/trainer/config'],
];
const CUDA_TESTS = [['test/cuda/policy_loss', 'test/cuda/errors'], ['test/cuda/backends']];

const execute = (command, args, options) =>
  new Promise((resolve) =>
    execFile(command, args, { maxBuffer: 1 << 28, timeout: 600_000, ...options }, (error, out, err) =>
      resolve({ failed: error !== null, out, err }),
    ),
  );

/** The package without what is built or fetched; packages are shared. */
function copyPackage() {
  const folder = mkdtempSync(join(tmpdir(), 'mutants-'));
  for (const name of COPIED.filter((n) => existsSync(join(root, n)))) cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
  return folder;
}

/** Builds the core addon of the copy; false when it does not compile. */
async function buildCore(folder) {
  const { buildAddon, HOST_FLAGS, CXX, sourcesIn, hostKernels } = await import(join(folder, 'scripts', 'objects.mjs'));
  const sources = [...hostKernels().filter((s) => !s.includes('/torch/')), ...sourcesIn('native/addon/core', /\.cc$/)];
  const jobs = sources.map((source) => ({ source, folder: join(folder, 'build', 'objects'), command: CXX, args: HOST_FLAGS }));
  const identity = ['-DFG_ADDON="core"', `-DFG_VERSION="${version}"`, '-DFG_SOURCES="mutant"'];
  jobs.push({ ...jobs[0], source: 'native/addon/common/identity.cc', args: [...HOST_FLAGS, ...identity] });
  await buildAddon({ folder: join(folder, 'build', 'Release'), name: 'core.node', jobs });
}

/** The name of the first test that fails, or null. */
async function firstFailure(folder, tests) {
  const file = join(folder, 'jest.json');
  rmSync(file, { force: true });
  const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js');
  const args = [jest, '--rootDir', folder, '--json', '--outputFile', file, '--testPathIgnorePatterns', 'reference|workers', '--', ...tests];
  const run = await execute(process.execPath, args, { cwd: folder, env: { ...process.env, FUSED_GRPO_SWEEP: '120' } });
  if (!existsSync(file)) return `jest itself ended: ${run.err.slice(-300)}`;
  const found = JSON.parse(readFileSync(file, 'utf8')).testResults.filter((r) => r.status === 'failed');
  if (found.length === 0) return null;
  const test = found[0].assertionResults.find((a) => a.status === 'failed');
  return `${found[0].name.slice(folder.length + 1)}: ${test?.fullName ?? 'does not run'}`;
}

async function judge(folder, [name, file, find, replacement]) {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  if (text.split(find).length !== 2) return { name, file, killedBy: null, note: 'the text to replace is not there exactly once' };
  writeFileSync(
    path,
    text.replace(find, () => replacement),
  );
  try {
    const cuda = name.startsWith('CUDA');
    await buildCore(folder); // also after a mutant before this one
    for (const tests of cuda ? CUDA_TESTS : CPU_TESTS) {
      const killedBy = await firstFailure(folder, tests);
      if (killedBy) return { name, file, killedBy };
    }
    return { name, file, killedBy: null };
  } catch (error) {
    return { name, file, killedBy: null, note: `does not compile: ${String(error.message).split('\n')[0]}` };
  } finally {
    writeFileSync(path, text);
  }
}

function report(list) {
  const killed = list.filter((m) => m.killedBy);
  const row = (m) => `| ${m.name} | ${m.file} | ${m.killedBy ?? `**survived** ${m.note ?? ''}`} |`;
  const lines = [
    '# Seeded bugs, and the test that notices each',
    '',
    '`npm run test:mutants` (by hand; scripts/mutants.mjs) applies each to a copy of the package, rebuilds, and runs the tests until one fails.',
    '',
    `${killed.length} of ${list.length} are noticed.`,
    '',
    '| bug | file | first test that fails |',
    '|---|---|---|',
    ...list.map(row),
    '',
  ];
  writeFileSync(join(root, 'test', 'MUTANTS.md'), lines.join('\n'));
  writeFileSync(results, JSON.stringify(list, null, 1) + '\n');
}

await runAsCommand(import.meta.url, async (argv) => {
  const { values } = parseArgs({ args: argv, options: { only: { type: 'string' }, resume: { type: 'boolean' } } });
  const wanted = [...formulas, ...plumbing].filter(
    ([name, file]) => !values.only || name.includes(values.only) || file.includes(values.only),
  );
  const names = new Set([...formulas, ...plumbing].map(([name]) => name));
  const earlier = (values.resume || values.only) && existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : [];
  const known = earlier.filter((k) => names.has(k.name));
  const folder = copyPackage();
  try {
    await buildCore(folder);
    for (const tests of [...CPU_TESTS, ...CUDA_TESTS]) {
      const broken = await firstFailure(folder, tests);
      if (broken) throw new Error(`The tests fail without any mutant: ${broken}`);
    }
    for (const mutant of wanted) {
      if (values.resume && known.some((k) => k.name === mutant[0] && k.killedBy)) continue;
      const found = await judge(folder, mutant);
      known.splice(0, known.length, ...known.filter((k) => k.name !== found.name), found);
      console.log(`${found.killedBy ? 'killed  ' : 'SURVIVED'} ${found.name} (${found.killedBy ?? found.note ?? 'no test fails'})`);
      report(known);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const alive = known.filter((k) => !k.killedBy).length;
  console.log(`mutants: ${known.length - alive} passed, ${alive} failed`);
  if (alive > 0) process.exitCode = 1;
});
