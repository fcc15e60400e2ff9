// Why an addon cannot be used, in plain words, with what to do: before it is loaded (judge) and when loading failed (explain).
'use strict';
const { createHash } = require('node:crypto');
const { existsSync, readFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { compareVersions, inspectBinary } = require('./binary.cjs');
const { VARIABLES, findAddon, machineLibc } = require('./lookup.cjs');
const { isCheckout, runner, version } = require('./place.cjs');
const { INPUTS, sourceDigest } = require('./sources.cjs');
const { locateLibtorch, torchVersion } = require('./torch.cjs');

const rebuild = (name) => `Run: ${runner()} build ${name} --force`;
const because = (why, act) => ({ why, act });

/** What to do about a file that is of no use: the user's own choice is the user's to change, everything else can be built here. */
const replace = (name, kind) => (kind === 'variable' ? `Unset ${VARIABLES[name]}, or name another file` : rebuild(name));

function missing(name, passedOver) {
  const skipped = passedOver.length ? ` (prebuilt ones do not fit: ${passedOver.join('; ')})` : '';
  const pnpm = runner().startsWith('pnpm') ? ', or pnpm approve-builds' : '';
  const blocked = name === 'core' && !passedOver.length ? ': package managers skip install scripts unless they are allowed' : '';
  return because(`is not built${skipped}${blocked}`, `Run: ${runner()} build${pnpm}`);
}

/** An older C library or Node than the file asks for. */
function tooOld(name, kind, { identity, needs }) {
  const here = machineLibc();
  const act = replace(name, kind);
  if (identity.libc !== here.libc) return because(`was built for ${identity.libc}, and this machine has ${here.libc}`, act);
  if (needs.GLIBC && here.version && compareVersions(here.version, needs.GLIBC) < 0)
    return because(`was built on a newer system: it needs glibc ${needs.GLIBC}, and this machine has ${here.version}`, act);
  if (identity.napi > Number(process.versions.napi))
    return because(
      `needs Node-API ${identity.napi}, and Node.js ${process.version} has ${process.versions.napi}`,
      `Use a newer Node.js, or r${act.slice(1)}`,
    );
  return null;
}

/** The libtorch that an addon will use: one that was built here has its path in it, and the build's stamp says which; else the user's. */
function torchFolder(kind, file) {
  if (kind !== 'build') return locateLibtorch()?.folder;
  try {
    return JSON.parse(readFileSync(join(dirname(file), '../engine.json'), 'utf8')).settings.torch.folder;
  } catch {
    return undefined; // the loader will say
  }
}

/** Libtorch's version is part of an engine's ABI. */
function wrongTorch(name, kind, file, identity) {
  if (!identity.torch) return null;
  const folder = torchFolder(kind, file);
  const found = folder && torchVersion(folder);
  if (found && found !== identity.torch)
    return because(`was built with libtorch ${identity.torch}, and the one in ${folder} is ${found}`, replace(name, kind));
  if (found || kind === 'build') return null;
  return because(
    `needs libtorch ${identity.torch}, and there is none`,
    `Run: ${runner()} build engine (it fetches one), or set LIBTORCH to a libtorch ${identity.torch}`,
  );
}

/** { file, kind, identity } of the addon to load, or { file, kind, why, act } when there is none that can be. */
function judge(name) {
  const { file, kind, entry, passedOver } = findAddon(name);
  if (kind === null) return { file, kind, ...missing(name, passedOver) };
  const verdict = () => {
    if (!existsSync(file)) return because(`is not there: ${VARIABLES[name]} names ${file}`, replace(name, kind));
    const binary = inspectBinary(file);
    const { arch, identity, problem } = binary;
    if (problem) return because(problem, replace(name, kind));
    if (entry && entry.sha256 !== createHash('sha256').update(readFileSync(file)).digest('hex'))
      return because('is not the file that its manifest lists (SHA-256)', replace(name, kind));
    if (arch !== process.arch) return because(`was built for ${arch}, and this Node.js is ${process.arch}`, replace(name, kind));
    if (!identity || identity.addon !== name)
      return because(identity ? `is the ${identity.addon}` : 'was built by another version of fused-grpo', replace(name, kind));
    if (identity.version !== version)
      return because(`was built for fused-grpo ${identity.version}, and this is ${version}`, replace(name, kind));
    // in a checkout the sources are being edited: build and doctor compare them there
    if (!(kind === 'build' && isCheckout()) && identity.sources !== sourceDigest(INPUTS[name]))
      return because('was built from other sources than those of this package', replace(name, kind));
    return tooOld(name, kind, binary) ?? wrongTorch(name, kind, file, identity) ?? { identity };
  };
  return { file, kind, ...verdict() };
}

/** What a failure to load means: [pattern of the loader's message, words made of the match]. The order matters. */
const MEANINGS = [
  [/version [`'](GLIBC_\S+)' not found/, ([, v]) => `was built on a newer system: it needs ${v}`],
  [
    /version [`']((?:GLIBCXX|CXXABI)_\S+)' not found/,
    ([, v]) => `needs a newer C++ library (libstdc++.so.6 with ${v}) than this machine's`,
    (name) => `Update libstdc++ (Debian/Ubuntu: apt-get install libstdc++6), or r${rebuild(name).slice(1)}`,
  ],
  [
    /(lib(?:stdc\+\+|gcc_s)\.so\.\d+):? .*(?:cannot open|No such file)/,
    ([, library]) => `needs the C++ library ${library}, which is not installed`,
    () => 'Install libstdc++ (Debian/Ubuntu: apt-get install libstdc++6; Alpine: apk add libstdc++)',
  ],
  [/(ld-linux\S*\.so\S*|libc\.so\.6)\b.*(cannot open|No such file)/, () => 'was built for glibc, which this machine does not have'],
  [/(lib(?:torch|c10)\w*\.so\S*?):? .*(cannot open|No such file)/, ([, l]) => `does not find libtorch (${l})`, libtorchGone],
  [/(\S+\.so\S*?):? cannot open shared object file/, ([, l]) => `needs ${l}, which is not installed`],
  [/undefined symbol/, () => 'does not fit the libtorch that it finds (another version or build)', (name) => rebuild(name)],
  [/Node-API version (\d+)/, ([, v]) => `needs Node-API ${v}: a newer Node.js`, () => 'Use a newer Node.js'],
  [
    /failed to map segment.*|Operation not permitted|Permission denied/,
    ([m]) => `may not be run from where it lies (${m.trim()})`,
    () => 'Look at its rights, and whether the file system is mounted noexec',
  ],
  [/no-addons|addons.* disabled|Cannot load native addon/i, () => 'is refused by Node.js', () => 'Run Node.js without --no-addons'],
];

function libtorchGone() {
  const torch = locateLibtorch();
  const where = torch ? ` (it uses ${torch.folder})` : '';
  return `Run: ${runner()} build engine${where}, or set LIBTORCH to a libtorch that you have`;
}

/** { why, act } for what the dynamic loader said. */
function explain(name, kind, message) {
  const line = message.split('\n')[0];
  for (const [pattern, words, act] of MEANINGS) {
    const match = pattern.exec(message);
    if (match) return because(`${words(match)} [${line}]`, act ? act(name) : replace(name, kind));
  }
  return because(`could not be loaded (${line})`, replace(name, kind));
}

module.exports = { judge, explain };
