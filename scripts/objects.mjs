// Addons for tests, built by plain compilers and never installed: objects are kept, and made again when something that they include
// has changed.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { depsFolder, root } from './deps.mjs';
import { takeLock } from './lock.mjs';
import { inParallel } from './run.mjs';

const require = createRequire(import.meta.url);
export const CXX = process.env.CXX?.trim() || 'g++';

const include = ['native', 'test', require('node-api-headers').include_dir, require('node-addon-api').include_dir.replaceAll('"', '')];
const defines = ['NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'];
/** Of everything that the host's compiler compiles. */
export const HOST_FLAGS = [
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
  ...defines.map((d) => `-D${d}`),
  ...include.map((i) => `-I${i}`),
];

/** The files of a folder whose names match, relative to the package's folder. */
export const sourcesIn = (folder, pattern) =>
  readdirSync(join(root, folder))
    .filter((f) => pattern.test(f))
    .sort()
    .map((f) => `${folder}/${f}`);
/** The kernels' CPU twins, and what compares the two on a card. */
export const hostKernels = () => [
  ...readFileSync(join(root, 'native/kernels/sources.txt'), 'utf8').trim().split(/\s+/),
  'native/torch/cuda_self_test.cc',
];

function run(command, args) {
  return new Promise((resolve, reject) =>
    execFile(command, args, { cwd: root, maxBuffer: 1 << 26 }, (error, out, err) => {
      if (error) reject(new Error(`${out}${err}` || String(error)));
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

/** The included files that lie in the package's folder, out of the compiler's dependency file; `version` stands for the compiler's own. */
const includedFiles = (text) =>
  text
    .replaceAll('\\\n', ' ')
    .slice(text.indexOf(': ') + 1)
    .trim()
    .split(/(?<!\\)\s+/)
    .map((file) => resolve(root, file.replaceAll('\\ ', ' ')))
    .filter((file) => file.startsWith(root) && !file.startsWith(depsFolder))
    .map((file) => file.slice(root.length));

async function compile({ source, object, command, args, version }) {
  const settings = [command, version, args];
  const old = knownState(object);
  if (old && old.digest === digest(old.files, settings)) return false;
  rmSync(`${object}.json`, { force: true });
  await run(command, [...args, '-MMD', '-MF', `${object}.d`, '-c', source, '-o', object]);
  const files = includedFiles(readFileSync(`${object}.d`, 'utf8'));
  writeFileSync(`${object}.json`, JSON.stringify({ files, digest: digest(files, settings) }));
  return true;
}

async function link(file, objects, args, changed) {
  const list = `${file}.json`;
  const wanted = JSON.stringify([args, objects]);
  if (!changed && existsSync(file) && existsSync(list) && readFileSync(list, 'utf8') === wanted) return;
  const part = `${file}.${process.pid}.part`;
  await run(CXX, ['-shared', ...objects, ...args, '-o', part]);
  renameSync(part, file);
  writeFileSync(list, wanted);
}

/**
 * Builds what is out of date of `folder`/`name` and returns its file. jobs: { source, folder (of the object), command, args, version? }.
 * One build of a folder at a time: test files that run side by side all ask for it.
 */
export async function buildAddon({ folder, name, jobs, linkArgs = [] }) {
  mkdirSync(folder, { recursive: true });
  const giveBack = takeLock(join(folder, 'build.lock'));
  try {
    for (const place of new Set(jobs.map((j) => j.folder))) mkdirSync(place, { recursive: true });
    const all = jobs.map((j) => ({ ...j, object: join(j.folder, `${j.source.replaceAll('/', '_')}.o`) }));
    const compiled = await inParallel(all, Math.max(2, Math.min(4, availableParallelism())), compile);
    const file = join(folder, name);
    const objects = all.map((j) => j.object);
    await link(file, objects, linkArgs, compiled.some(Boolean));
    return file;
  } finally {
    giveBack();
  }
}
