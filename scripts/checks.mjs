// What `doctor` looks at before it loads anything: each check says what was found, and the one command that mends it.
// Order: what others depend on comes first. Needs no network and builds nothing.
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import addons from './addons/index.cjs';
import { SETS, depsFolder, findPython, leftovers, root } from './deps.mjs';
import { inspectLibtorch, locateLibtorch } from './libtorch.mjs';
import { productState } from './state.mjs';
import { ask, findCompiler, installCommand, usableCmake } from './toolchain.mjs';

const require = createRequire(import.meta.url);
const run = (words) => `${addons.runner()} ${words}`;
const ok = (name, found) => ({ name, status: 'ok', found });
const bad = (name, found, remedy) => ({ name, status: 'bad', found, remedy });
/** Missing, which is bad only while something needs it. */
const missing = (name, needed, found, remedy) => ({
  name,
  status: needed ? 'bad' : 'note',
  found: needed ? found : `${found} (not needed now)`,
  remedy,
});

function nodeCheck() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const enough = major > 20 || (major === 20 && minor >= 17);
  return enough
    ? ok('Node.js', process.version)
    : bad('Node.js', `${process.version}; 20.17 or newer is needed`, 'install Node.js 20.17 or newer (nodejs.org, or nvm install 22)');
}

function compilerCheck(needed) {
  const { cxx, version, problem } = findCompiler();
  return problem ? missing('C++ compiler', needed, problem, installCommand('compiler')) : ok('C++ compiler', `${cxx} ${version}`);
}

function makeCheck(needed) {
  const found = ask(process.env.MAKE ?? 'make', ['--version']);
  return found ? ok('make', found) : missing('make', needed, 'make was not found (node-gyp needs it)', installCommand('make'));
}

/** Python is needed by node-gyp for the core, and with pip to fetch libtorch or cmake. */
function pythonChecks(needed, pipNeeded) {
  const { python, pip, venv, version } = findPython();
  if (!python) return [missing('Python', needed || pipNeeded, 'Python 3 was not found', installCommand('pip'))];
  const first = ok('Python', version);
  if (pip) return [first, ok('pip', pip)];
  if (venv) return [first, ok('pip', 'none of its own; a private one is made when it is needed')];
  return [first, missing('pip', pipNeeded, 'Python 3 has no pip, which fetches libtorch', installCommand('pip'))];
}

function diskCheck(toFetch) {
  let folder = depsFolder;
  while (!existsSync(folder)) folder = dirname(folder);
  const disk = statfsSync(folder);
  const free = disk.bavail * disk.bsize;
  const need = toFetch.reduce((sum, name) => sum + SETS[name].size, 0.3e9);
  const text = `${(free / 1e9).toFixed(1)} GB free under ${folder}`;
  return free >= need
    ? ok('disk space', text)
    : bad(
        'disk space',
        `${text}; ${(need / 1e9).toFixed(1)} GB are needed`,
        'free some space, or set FUSED_GRPO_DEPS to a folder on a larger disk',
      );
}

function writableCheck(needed) {
  try {
    rmSync(mkdtempSync(join(root, '.doctor-')), { recursive: true });
    return [];
  } catch (error) {
    return [
      missing(
        'package folder',
        needed,
        `${root} cannot be written (${error.code})`,
        'run the build as the user who installed the package, or install it into a folder of your own',
      ),
    ];
  }
}

function packagesCheck() {
  const gone = ['bindings', 'detect-libc', 'node-addon-api', 'node-api-headers', 'node-gyp', 'cmake-js'].filter((name) => !resolves(name));
  return gone.length
    ? bad('npm packages', `missing: ${gone.join(', ')}`, existsSync(join(root, 'lib')) ? 'npm ci' : 'npm install fused-grpo')
    : ok('npm packages', 'installed');
}

/** Asks Node, so that every package manager's layout will do; some packages export no package.json. */
function resolves(name) {
  return [`${name}/package.json`, name].some((id) => {
    try {
      return Boolean(require.resolve(id));
    } catch {
      return false;
    }
  });
}

/** The libtorch that a build would take; its absence is no fault: building fetches it. */
function libtorchCheck(engine) {
  const wish = locateLibtorch();
  if (!wish)
    return {
      check: {
        name: 'libtorch',
        status: engine.current ? 'note' : 'bad', // a prebuilt engine needs one, too
        found: 'none yet; building the engine fetches it with pip (about 1.3 GB, once)',
        remedy: run('build'),
      },
      torch: null,
    };
  try {
    const torch = inspectLibtorch(wish.folder);
    return { check: ok('libtorch', `${torch.version} in ${torch.folder}${wish.why ? ` (${wish.why})` : ''}`), torch };
  } catch (error) {
    return {
      check: bad(
        'libtorch',
        error.problem,
        wish.why === 'LIBTORCH' ? `unset LIBTORCH && ${run('build engine')}` : run('build engine --force'),
      ),
      torch: null,
    };
  }
}

/** An addon that was not built here: named by a variable, or prebuilt. Whether it loads is asked last, of the library itself. */
function foreignCheck(name) {
  const { kind, file, passedOver } = addons.findAddon(name);
  if (kind === 'variable') return ok(name, `${file} (${addons.VARIABLES[name]})`);
  if (kind === 'prebuilt' || kind === 'package') return ok(name, `prebuilt: ${file}`);
  if (passedOver?.length) return bad(name, `not built, and no prebuilt one fits: ${passedOver.join('; ')}`, run('build'));
  return null;
}

function addonCheck(name, state) {
  const command = run(`build ${name}`);
  const foreign = foreignCheck(name);
  if (foreign) return foreign;
  if (!state.built) return bad(name, 'not built', run('build'));
  if (state.stamp.settings.version !== addons.version)
    return bad(
      name,
      `built for fused-grpo ${state.stamp.settings.version ?? 'of another version'}, and this is ${addons.version}`,
      command,
    );
  if (!state.current) return bad(name, 'built from other sources than those that are here now', command);
  return ok(
    name,
    `built with ${state.stamp.settings.compiler}${state.stamp.settings.torch ? ` and libtorch ${state.stamp.settings.torch.version}` : ''}`,
  );
}

function engineCheck(state, torch) {
  const plain = addonCheck('engine', state);
  const built = state.stamp?.settings?.torch;
  if (plain.status !== 'ok' || !built || addons.findAddon('engine').kind !== 'build') return plain;
  const mend = run('build engine');
  if (!existsSync(join(built.folder, 'lib', 'libtorch_cpu.so')))
    return bad('engine', `built with the libtorch in ${built.folder}, which is no longer there`, mend);
  if (torch && torch.version !== built.version)
    return bad('engine', `built with libtorch ${built.version}, but the one found is ${torch.version}`, mend);
  if (torch && torch.folder !== built.folder)
    return bad('engine', `built with the libtorch in ${built.folder}, but the one found is in ${torch.folder}`, mend);
  return plain;
}

/** A killed fetch leaves a .part folder that only takes space. */
function interrupted() {
  const parts = leftovers();
  return parts.length
    ? [
        {
          name: 'leftovers',
          status: 'note',
          found: `${parts.join(', ')} in ${depsFolder}: an interrupted fetch; the next build removes it`,
        },
      ]
    : [];
}

/** Whether an addon that was not built here is used. */
const elsewhere = (name) => ['variable', 'prebuilt', 'package'].includes(addons.findAddon(name).kind);

/** All checks, in the order in which their remedies should be applied. */
export function machineChecks() {
  const core = productState('core');
  const engine = productState('engine');
  const { check: torchCheck, torch } = libtorchCheck(engine);
  const needsCore = !core.current && !elsewhere('core');
  const needsEngine = !engine.current && !elsewhere('engine');
  const building = needsCore || needsEngine;
  const toFetch = [
    ...(torch || engine.current ? [] : ['torch']),
    ...(usableCmake() || existsSync(join(depsFolder, 'cmake', '.set')) || !needsEngine ? [] : ['cmake']),
  ];
  return [
    nodeCheck(),
    packagesCheck(),
    compilerCheck(building),
    makeCheck(needsCore),
    ...pythonChecks(needsCore, toFetch.length > 0),
    ...writableCheck(building),
    diskCheck(toFetch),
    torchCheck,
    addonCheck('core', core),
    engineCheck(engine, torch),
    ...interrupted(),
  ];
}
