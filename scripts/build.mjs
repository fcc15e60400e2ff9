// Builds what is missing or out of date: node scripts/build.mjs [all|native|core|engine|ts|install ...] [--force] [--torch DIR]
// "install" is npm's install script: it builds the core and never fails an install; the message says what is missing.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import addons from './addons/index.cjs';
import { SetupError, fetchSet, removeLeftovers, root } from './deps.mjs';
import { findLibtorch } from './libtorch.mjs';
import { takeLock } from './lock.mjs';
import { CMAKE_ARCHITECTURES, cudaChoice } from './nvcc.mjs';
import { PRODUCTS, path, readStamp, sourceDigest } from './state.mjs';
import { checkCompiler, checkMake, usableCmake } from './toolchain.mjs';

const require = createRequire(import.meta.url);
const log = (text) => process.stderr.write(text + '\n');

function dependency(name, what) {
  try {
    return require.resolve(name);
  } catch {
    throw new SetupError(`${what} is not installed.`, `run npm ci (in a checkout) or npm install fused-grpo again; ${name} was not found`);
  }
}

const INTERESTING =
  /\berror[: ]|fatal error|CMake Error|undefined reference|multiple definition|cannot find|command not found|internal compiler error|\bKilled\b|not writable|EACCES/i;

function explainFailure(what, output, remedy) {
  if (/No space left/i.test(output))
    return new SetupError(`The disk is full (${what}).`, `free some space under ${root} and of the temporary folder`);
  if (/Killed|internal compiler error: Killed|std::bad_alloc|Cannot allocate memory/i.test(output))
    return new SetupError(
      `${what} ran out of memory: the compiler was killed.`,
      'give the machine at least 2 GB of free memory (or swap) and run the command again',
    );
  const lines = output.split('\n').filter((l) => INTERESTING.test(l) && !/npm error/.test(l));
  return new SetupError(
    `${what} failed:\n${(lines.length ? lines.slice(0, 30) : output.trim().split('\n').slice(-30)).join('\n')}`,
    `${remedy}; FUSED_GRPO_VERBOSE=1 shows all output`,
  );
}

// npm hands its settings down as variables, and node-gyp lets them overrule its arguments: a `nodedir` in ~/.npmrc would bring Node's
// own build settings (no exceptions), a `target` an Electron's. A pure Node-API addon needs none of them.
const FOREIGN = /^npm_(config|package_config_node_gyp)_(nodedir|target|runtime|disturl|dist_url)$/i;
const cleanEnv = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !FOREIGN.test(name)));

/** Runs a node script and throws with the interesting part of its output when it fails. */
function run(what, script, args, env, remedy) {
  const result = spawnSync(process.execPath, [script, ...args], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...cleanEnv(), ...env },
  });
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  if (process.env.FUSED_GRPO_VERBOSE) log(output);
  if (result.status !== 0) throw explainFailure(what, output, remedy);
}

/** One build at a time in this folder. */
export function withLock(work) {
  let giveBack;
  try {
    giveBack = takeLock(path('.build.lock'), () => log('Waiting for another build in this folder to finish ...'));
  } catch (error) {
    if (error.code === 'EACCES' || error.code === 'EROFS' || error.code === 'EPERM')
      throw new SetupError(
        `The package's folder cannot be written: ${root}`,
        'run the command as the user who installed the package, or install it into a folder of your own',
      );
    if (error.code === 'ENOSPC') throw new SetupError('The disk is full.', `free some space under ${root}`);
    throw error;
  }
  try {
    return work();
  } finally {
    giveBack();
  }
}

/** What the user's process would say: the library itself loads the addon, in a process of its own. null when all is well. */
function loadProblem(name, file) {
  const variable = addons.VARIABLES[name];
  const code = existsSync(path('dist/cjs/native.js'))
    ? `require(${JSON.stringify(path('dist/cjs/native.js'))}).${name}()`
    : 'require(process.argv[1])';
  const env = { ...process.env, OMP_WAIT_POLICY: process.env.OMP_WAIT_POLICY ?? 'PASSIVE', [variable]: '' };
  const result = spawnSync(process.execPath, ['-e', code, file], { encoding: 'utf8', env });
  if (result.status === 0) return null;
  const said = /Error(?: \[\w+\])?: (.*)/.exec(result.stderr ?? '')?.[1];
  return said ?? (result.signal ? `the process died with ${result.signal}` : `exit status ${result.status}`);
}

/** An addon that does not load is not a product: undefined symbols show here, not at the user's first call. */
function checkLoads(name, file) {
  const reason = loadProblem(name, file);
  if (reason === null) return;
  throw new SetupError(
    `The ${name} addon was built but does not load: ${reason}`,
    'the libtorch may be damaged or of another version than its headers; name another with --torch, or remove .deps/torch to have it fetched again',
  );
}

/** A prebuilt addon that fits and loads spares the build; in a checkout, or when a build was asked for or is there, it does not count. */
function prebuiltServes(name, force) {
  if (force || addons.isCheckout() || addons.findAddon(name).kind === 'build') return false;
  const found = addons.findPrebuilt(name);
  if (!found) return false;
  const reason = loadProblem(name, found.file);
  log(reason ? `The prebuilt ${name} does not load here (${reason}); building one.` : `Using the prebuilt ${name}: ${found.file}`);
  return reason === null;
}

/**
 * Builds an addon unless its stamp says that nothing has changed since. The stamp goes first and comes last: a build that is
 * interrupted is repeated. A build that fails takes the outdated product away, so that nobody runs old code believing it new.
 */
function upToDate(name, settings, force, build) {
  const { inputs, file, stamp } = PRODUCTS[name];
  const want = { sources: sourceDigest(inputs), settings };
  const old = readStamp(stamp);
  if (!force && existsSync(file) && old?.sources === want.sources && JSON.stringify(old.settings) === JSON.stringify(settings))
    return false;
  rmSync(stamp, { force: true });
  try {
    build();
    checkLoads(name, file);
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  }
  writeFileSync(stamp, JSON.stringify({ ...want, built: new Date().toISOString() }, null, 1));
  return true;
}

/** `portable`: for other machines; it brings its own C++ library. */
export function buildCore(force = false, portable = false) {
  if (!portable && prebuiltServes('core', force)) return false;
  const compiler = checkCompiler();
  checkMake();
  return upToDate('core', { compiler, version: addons.version, ...(portable ? { portable } : {}) }, force, () => {
    log('Building the core addon (node-gyp) ...');
    // relative paths: make cannot have spaces in the names it is given
    run(
      'Building the core',
      dependency('node-gyp/bin/node-gyp.js', 'node-gyp'),
      ['rebuild', '--nodedir=scripts/nodedir', '-j', 'max', `--portable=${portable ? 1 : 0}`],
      {},
      'read the compiler errors above',
    );
  });
}

function compileEngine({ torch, cuda, compiler, portable }, force) {
  const folder = path('build-engine');
  const configured = join(folder, 'settings.json');
  const settings = JSON.stringify([root, torch, ...(cuda ? [cuda] : []), compiler, process.version]);
  // A cache cannot be moved, and objects of another libtorch or compiler are of no use: start afresh when anything differs.
  if (force || !existsSync(configured) || readFileSync(configured, 'utf8') !== settings) rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'Release'), { recursive: true });
  const identity = {
    ADDON: 'engine',
    VERSION: addons.version,
    SOURCES: sourceDigest(PRODUCTS.engine.inputs),
    TORCH_VERSION: torch.version,
  };
  const values = Object.entries(identity).map(([name, value]) => `#define FG_${name} "${value}"\n`);
  writeFileSync(join(folder, 'identity_values.h'), values.join(''));
  const args = [
    '-O',
    folder,
    `--CDFG_TORCH=${torch.folder}`,
    `--CDFG_NVIDIA=${torch.nvidia ?? ''}`,
    `--CDFG_PORTABLE=${portable ? 'ON' : 'OFF'}`,
    `--CDCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(folder, 'link')}`,
  ];
  const env = {};
  if (cuda) {
    args.push('--CDFG_CUDA=ON', `--CDFG_CUDART=${cuda.cudart}`, `--CDFG_CUDA_ARCHITECTURES=${CMAKE_ARCHITECTURES}`);
    env.CUDACXX = cuda.nvcc;
  }
  if (!usableCmake()) {
    const cmake = fetchSet('cmake', log); // bin/cmake of the wheel is a Python script; the real binary lies in cmake/data
    args.push('-c', join(cmake, 'cmake/data/bin/cmake'));
    env.PATH = `${join(cmake, 'bin')}:${process.env.PATH ?? ''}`;
  }
  const tool = dependency('cmake-js/bin/cmake-js', 'cmake-js');
  const remedy = 'read the errors above; `npx fused-grpo doctor` lists what is installed';
  // `build` alone does not look at changed options once there is a cache
  if (existsSync(join(folder, 'CMakeCache.txt'))) run('Configuring the engine', tool, ['configure', ...args], env, remedy);
  run('Building the engine', tool, ['build', ...args], env, remedy);
  writeFileSync(configured, settings);
  // Linked elsewhere and put in place by renaming: a build that is killed while it links leaves no half addon to load.
  const { file } = PRODUCTS.engine;
  copyFileSync(join(folder, 'link', 'engine.node'), `${file}.part`);
  renameSync(`${file}.part`, file);
}

/** `portable`: for other machines; no path of this one is in it. */
export function buildEngine(force = false, named, portable = false) {
  // first what is quickly told: fetching libtorch takes minutes
  const compiler = addons.findPrebuilt('engine') ? null : checkCompiler();
  const torch = findLibtorch(named, log);
  const cuda = cudaChoice(torch, log);
  if (!cuda && !portable && prebuiltServes('engine', force)) return false;
  const chosen = { compiler: compiler ?? checkCompiler(), torch, ...(cuda ? { cuda } : {}), ...(portable ? { portable } : {}) };
  return upToDate('engine', { ...chosen, version: addons.version }, force, () => {
    const gpu = cuda ? ` and CUDA ${cuda.version}` : '';
    log(`Building the engine addon (cmake-js) with libtorch ${torch.version} from ${torch.folder}${gpu} ...`);
    compileEngine(chosen, force);
  });
}

export function buildTypeScript(force = false) {
  if (!existsSync(path('lib'))) return false; // an installed package ships dist/
  const stamp = path('dist/ts.json');
  const sources = sourceDigest(['lib', 'tsconfig.json', 'scripts/esm-entry.mjs']);
  if (!force && existsSync(path('dist/index.mjs')) && readStamp(stamp)?.sources === sources) return false;
  const tsc = dependency('typescript/bin/tsc', 'TypeScript');
  log('Compiling TypeScript ...');
  rmSync(path('dist'), { recursive: true, force: true });
  run('Compiling TypeScript', tsc, ['-p', path('tsconfig.json')], {}, 'read the errors above');
  run('Writing the ES module entry', path('scripts/esm-entry.mjs'), [], {}, 'read the errors above');
  writeFileSync(stamp, JSON.stringify({ sources }));
  return true;
}

const GROUPS = {
  all: ['ts', 'core', 'engine'],
  native: ['core', 'engine'],
  install: ['core'],
  ts: ['ts'],
  core: ['core'],
  engine: ['engine'],
};

/** The command's words; throws for what it does not know. */
export function parseBuildArguments(argv) {
  const out = { parts: [], force: false, torch: undefined };
  for (let i = 0; i < argv.length; ++i) {
    const [word, inline] = argv[i].startsWith('--') ? argv[i].split(/=(.*)/s) : [argv[i]];
    if (word === '--force') out.force = true;
    else if (word === '--torch') {
      out.torch = inline ?? argv[++i];
      if (!out.torch) throw new SetupError('--torch needs a folder.', 'name the folder that holds lib/libtorch_cpu.so and include/');
    } else if (GROUPS[word]) out.parts.push(...GROUPS[word]);
    else
      throw Object.assign(
        new SetupError(
          `Unknown ${word.startsWith('-') ? 'option' : 'part'} '${argv[i]}' of build.`,
          'use [core] [engine] [--torch DIR] [--force]',
        ),
        { usage: true },
      );
  }
  if (out.parts.length === 0) out.parts = GROUPS.all;
  return out;
}

function main(argv) {
  const { parts, force, torch } = parseBuildArguments(argv);
  const build = { ts: () => buildTypeScript(force), core: () => buildCore(force), engine: () => buildEngine(force, torch) };
  withLock(() => {
    removeLeftovers();
    const done = [...new Set(parts)].map((part) => build[part]());
    if (process.env.FUSED_GRPO_SAY_DONE) log(done.some(Boolean) ? 'Built.' : 'Everything is up to date.');
  });
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const install = process.argv[2] === 'install';
  try {
    main(process.argv.slice(2));
  } catch (error) {
    log(error instanceof SetupError ? error.message : String(error.stack ?? error));
    if (install) log('fused-grpo: the core addon was not built; importing still works, and `npx fused-grpo build` builds it later.');
    process.exitCode = install ? 0 : error.usage ? 2 : 1;
  }
}
