// Builds what is missing or out of date: node scripts/build.mjs [all|core|engine|ts|install] [--force] [--torch DIR]
// "install" is npm's install script: it builds the core and never fails an install; the message says what is missing.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError, fetchSet, root } from './deps.mjs';
import { findLibtorch } from './libtorch.mjs';

const require = createRequire(import.meta.url);
const has = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
const log = (text) => process.stderr.write(text + '\n');
const path = (...parts) => join(root, ...parts);

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  if (!statSync(folder).isDirectory()) return [folder];
  return readdirSync(folder).sort().flatMap((name) => filesUnder(join(folder, name)));
}

/** A digest of the inputs' contents and of what else decides the result; equal digest = nothing to do. */
function digest(inputs, ...settings) {
  const hash = createHash('sha256').update(settings.join('\0'));
  for (const file of inputs.flatMap((i) => filesUnder(path(i)))) hash.update(file.slice(root.length) + '\0').update(readFileSync(file));
  return hash.digest('hex');
}

/** Runs a node script and throws with the interesting part of its output when it fails. */
function run(what, script, args, env, remedy) {
  const result = spawnSync(process.execPath, [script, ...args], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, ...env } });
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  if (process.env.FUSED_GRPO_VERBOSE) log(output);
  if (result.status === 0) return output;
  const errors = output.split('\n').filter((l) => /error|fatal|No space left|not found/i.test(l) && !/npm error/.test(l));
  if (/No space left/i.test(output)) throw new SetupError(`The disk is full (${what}).`, `free some space under ${root}`);
  throw new SetupError(`${what} failed:\n${(errors.length ? errors.slice(0, 30) : output.trim().split('\n').slice(-30)).join('\n')}`, remedy);
}

/** One build at a time in this folder; a lock left behind by a dead process is taken over. */
function withLock(work) {
  const lock = path('.build.lock');
  for (let waited = 0; ; ++waited) {
    try {
      closeSync(openSync(lock, 'wx'));
      writeFileSync(lock, String(process.pid));
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      const owner = Number(readFileSync(lock, 'utf8')) || 0;
      let alive = waited < 2; // the owner may not have written its pid yet
      if (owner) try { process.kill(owner, 0); alive = true; } catch (e) { alive = e.code === 'EPERM'; }
      if (!alive) { rmSync(lock, { force: true }); continue; }
      if (waited === 0) log('Waiting for another build in this folder to finish ...');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    }
  }
  try { return work(); } finally { rmSync(lock, { force: true }); }
}

/** Builds unless the stamp beside the product has the same digest. The stamp is written last. */
function upToDate(product, stamp, want, force, build) {
  if (!force && existsSync(product) && existsSync(stamp) && JSON.parse(readFileSync(stamp, 'utf8')).digest === want) return false;
  const metadata = build() ?? {};
  writeFileSync(stamp, JSON.stringify({ digest: want, ...metadata }, null, 1));
  return true;
}

function compiler() {
  const cxx = process.env.CXX ?? 'g++';
  if (!has(cxx)) throw new SetupError(`No C++ compiler: ${cxx} was not found.`, 'install g++ 11 or newer (Debian/Ubuntu: apt-get install g++ make)');
  const version = spawnSync(cxx, ['-dumpfullversion', '-dumpversion'], { encoding: 'utf8' }).stdout.trim();
  if (/g\+\+/.test(cxx) && Number(version.split('.')[0]) < 11) throw new SetupError(`${cxx} is version ${version}; C++20 needs 11 or newer.`, 'install g++ 11 or newer (Debian/Ubuntu: apt-get install g++)');
  return { cxx, version };
}

export function buildCore(force = false) {
  const { cxx, version } = compiler();
  if (!has('make')) throw new SetupError('make was not found (node-gyp needs it).', 'install make (Debian/Ubuntu: apt-get install make)');
  const inputs = ['binding.gyp', 'scripts/nodedir', 'native/math', 'native/kernels', 'native/addon/core', 'native/addon/common'];
  return upToDate(path('build/Release/core.node'), path('build/core.json'), digest(inputs, cxx, version), force, () => {
    log('Building the core addon (node-gyp) ...');
    run('Building the core', require.resolve('node-gyp/bin/node-gyp.js'), ['rebuild', `--nodedir=${path('scripts/nodedir')}`, '-j', 'max'], {}, 'read the compiler errors above');
    return { compiler: `${cxx} ${version}` };
  });
}

export function buildEngine(force = false, namedTorch) {
  const { cxx, version } = compiler();
  const torch = findLibtorch(namedTorch, log);
  const inputs = ['CMakeLists.txt', 'native'];
  return upToDate(path('build-engine/Release/engine.node'), path('build-engine/engine.json'), digest(inputs, cxx, version, torch.folder, torch.version), force, () => {
    log(`Building the engine addon (cmake-js) with libtorch ${torch.version} from ${torch.folder} ...`);
    const settings = JSON.stringify([torch.folder, torch.version, cxx, version]);
    const configured = path('build-engine/settings.json');
    // cmake-js ignores changed options once a cache exists: start afresh when one of them changed.
    if (!existsSync(configured) || readFileSync(configured, 'utf8') !== settings) rmSync(path('build-engine'), { recursive: true, force: true });
    mkdirSync(path('build-engine'), { recursive: true });
    writeFileSync(configured, settings);
    const args = ['build', '-O', path('build-engine'), `--CDFG_TORCH=${torch.folder}`, `--CDFG_NVIDIA=${torch.nvidia ?? ''}`];
    const env = {};
    if (!has('cmake') || process.env.FUSED_GRPO_PIP_CMAKE) {
      const cmake = fetchSet('cmake', log); // bin/cmake of the wheel is a Python script; the real binary lies in cmake/data
      args.push('-c', join(cmake, 'cmake/data/bin/cmake'));
      env.PATH = `${join(cmake, 'bin')}:${process.env.PATH}`;
    }
    run('Building the engine', require.resolve('cmake-js/bin/cmake-js'), args, env, 'read the compiler errors above; `npx fused-grpo doctor` lists what is installed');
    return { torch: torch.version, libtorch: torch.folder, compiler: `${cxx} ${version}` };
  });
}

export function buildTypeScript(force = false) {
  if (!existsSync(path('lib'))) return false; // an installed package ships dist/
  let tsc;
  try { tsc = require.resolve('typescript/bin/tsc'); } catch { throw new SetupError('TypeScript is not installed.', 'npm ci'); }
  return upToDate(path('dist/index.mjs'), path('dist/ts.json'), digest(['lib', 'tsconfig.json', 'scripts/esm-entry.mjs']), force, () => {
    log('Compiling TypeScript ...');
    rmSync(path('dist'), { recursive: true, force: true });
    run('Compiling TypeScript', tsc, ['-p', path('tsconfig.json')], {}, 'read the errors above');
    run('Writing the ES module entry', path('scripts/esm-entry.mjs'), [], {}, 'read the errors above');
  });
}

function main([what = 'all', ...rest]) {
  const force = rest.includes('--force');
  const torchAt = rest.indexOf('--torch');
  const named = torchAt >= 0 ? rest[torchAt + 1] : undefined;
  const parts = { all: ['ts', 'core', 'engine'], native: ['core', 'engine'], install: ['core'] }[what] ?? [what];
  const build = { ts: () => buildTypeScript(force), core: () => buildCore(force), engine: () => buildEngine(force, named) };
  if (parts.some((p) => !build[p])) throw new SetupError(`Unknown part '${what}'.`, 'use one of all, native, core, engine, ts');
  withLock(() => parts.forEach((p) => build[p]()));
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const install = process.argv[2] === 'install';
  try {
    main(process.argv.slice(2));
  } catch (error) {
    log(error instanceof SetupError ? error.message : String(error.stack ?? error));
    if (install) log('fused-grpo: the core addon was not built; importing still works, and `npx fused-grpo build` builds it later.');
    process.exitCode = install ? 0 : 1;
  }
}
