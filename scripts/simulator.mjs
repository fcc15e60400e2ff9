// Builds the test addon that runs the CUDA kernels on the host: node scripts/simulator.mjs [--asan]
// Plain g++, no node-gyp: it is never installed. Objects are kept and rebuilt when something that they include has changed.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { root } from './deps.mjs';
import { takeLock } from './lock.mjs';
import { inParallel, runAsCommand } from './run.mjs';

const require = createRequire(import.meta.url);
const folder = join(root, 'build-simulator');

/** The kernels, their CPU twins, what compares the two on a card, and the simulator itself. */
function sources() {
  const of = (dir, pattern) =>
    readdirSync(join(root, dir))
      .filter((f) => pattern.test(f))
      .sort()
      .map((f) => `${dir}/${f}`);
  const cpu = readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/);
  return [...of('native/kernels/cuda', /\.(cu|cc)$/), ...cpu, 'native/torch/cuda_self_test.cc', ...of('test/simulator', /\.(cu|cc)$/)];
}

function flags(asan) {
  const include = ['native', 'test', require('node-api-headers').include_dir, require('node-addon-api').include_dir.replaceAll('"', '')];
  const defines = ['NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'];
  return [
    '-std=c++20',
    '-fPIC',
    '-O2',
    '-Wall',
    '-Wextra',
    '-Wno-unused-parameter',
    '-Wno-psabi',
    '-fvisibility=hidden',
    '-ffp-contract=off',
    '-fno-math-errno',
    ...(asan ? ['-g', '-fsanitize=address,undefined', '-fno-sanitize=vptr'] : []),
    ...defines.map((d) => `-D${d}`),
    ...include.map((i) => `-I${i}`),
  ];
}

function compiler(args) {
  return new Promise((resolve, reject) =>
    execFile(process.env.CXX ?? 'g++', args, { cwd: root, maxBuffer: 1 << 26 }, (error, _out, err) => {
      if (error) reject(new Error(err || String(error)));
      else resolve(void (err && process.stderr.write(err)));
    }),
  );
}

function digest(files, settings) {
  const hash = createHash('sha256').update(JSON.stringify(settings));
  for (const file of files) hash.update(file + '\0').update(existsSync(join(root, file)) ? readFileSync(join(root, file)) : '');
  return hash.digest('hex');
}

/** What make would know of the object: { files, digest }, or null. */
function knownState(object) {
  try {
    return existsSync(object) ? JSON.parse(readFileSync(`${object}.json`, 'utf8')) : null;
  } catch {
    return null;
  }
}

/** The included files of ours and of packages, out of the compiler's dependency file; system headers are not listed. */
const includedFiles = (text) =>
  text
    .replaceAll('\\\n', ' ')
    .split(':')
    .slice(1)
    .join(':')
    .trim()
    .split(/\s+/)
    .map((f) => (f.startsWith(root + '/') ? f.slice(root.length + 1) : f));

async function compile(source, object, settings) {
  const old = knownState(object);
  if (old && old.digest === digest(old.files, settings)) return false;
  rmSync(`${object}.json`, { force: true });
  await compiler([...settings, '-MMD', '-MF', `${object}.d`, '-c', '-x', 'c++', source, '-o', object]);
  const files = includedFiles(readFileSync(`${object}.d`, 'utf8'));
  writeFileSync(`${object}.json`, JSON.stringify({ files, digest: digest(files, settings) }));
  return true;
}

/** One build at a time: test files that run side by side all ask for it. */
async function locked(name, work) {
  mkdirSync(folder, { recursive: true });
  const giveBack = takeLock(join(folder, `${name}.lock`));
  try {
    return await work();
  } finally {
    giveBack();
  }
}

/** Builds what is out of date and returns the addon's file. */
export const buildSimulator = (options = {}) => locked(options.asan ? 'asan' : 'simulator', () => build(options));

async function build({ asan = false }) {
  const objects = join(folder, asan ? 'asan' : 'objects');
  mkdirSync(objects, { recursive: true });
  const settings = flags(asan);
  const jobs = sources().map((source) => ({ source, object: join(objects, source.replaceAll('/', '_') + '.o') }));
  const compiled = await inParallel(jobs, Math.max(2, Math.min(4, availableParallelism())), (job) =>
    compile(job.source, job.object, settings),
  );
  const changed = compiled.some(Boolean);
  const file = join(folder, asan ? 'simulator-asan.node' : 'simulator.node');
  const list = `${file}.json`;
  const wanted = JSON.stringify(jobs.map((j) => j.object));
  if (changed || !existsSync(file) || !existsSync(list) || readFileSync(list, 'utf8') !== wanted) {
    const part = `${file}.${process.pid}.part`;
    await compiler(['-shared', ...(asan ? ['-fsanitize=address,undefined'] : []), ...jobs.map((j) => j.object), '-o', part]);
    renameSync(part, file);
    writeFileSync(list, wanted);
  }
  return file;
}

await runAsCommand(import.meta.url, async (argv) => {
  process.stdout.write((await buildSimulator({ asan: argv.includes('--asan') })) + '\n');
});
