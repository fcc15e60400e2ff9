// Which file an addon is loaded from. In this order, the first that is there:
//   1. FUSED_GRPO_CORE, FUSED_GRPO_ENGINE: a .node file that the user names;
//   2. what `npx fused-grpo build` built in this folder: whoever built one wants that one;
//   3. prebuilds/<platform>-<processor>/ in the package, where its manifest lists one that fits this machine;
//   4. the same folder in the optional package fused-grpo-<platform>-<processor>, when it is installed and of this version.
// The names are node-gyp-build's. Its code is not used: it takes any .node file of a folder (there are two addons here), does not know
// libtorch's versions and checks neither the package's version nor whether the file is whole.
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { dirname, join, resolve } = require('node:path');
const { familySync, versionSync } = require('detect-libc');
const { compareVersions } = require('./binary.cjs');
const { root, version } = require('./place.cjs');
const { locateLibtorch, torchVersion } = require('./torch.cjs');

const VARIABLES = { core: 'FUSED_GRPO_CORE', engine: 'FUSED_GRPO_ENGINE' };
const BUILT = { core: join(root, 'build/Release/core.node'), engine: join(root, 'build-engine/Release/engine.node') };
const platform = `${process.platform}-${process.arch}`;

/** { libc: 'glibc' | 'musl', version } of this machine; version null where it cannot be told. */
const machineLibc = () => ({ libc: familySync() ?? 'glibc', version: versionSync() });

function readManifest(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
  } catch {
    return null;
  }
}

/** Folders of prebuilt addons, best first: { kind, folder }. */
function prebuiltFolders() {
  const folders = [{ kind: 'prebuilt', folder: join(root, 'prebuilds', platform) }];
  try {
    const found = createRequire(join(root, 'package.json')).resolve(`fused-grpo-${platform}/package.json`);
    folders.push({ kind: 'package', folder: join(dirname(found), 'prebuilds', platform) });
  } catch {
    // not installed: it is optional
  }
  return folders;
}

/** Why a prebuilt addon is not for this machine and this package, or null when it is. `e`: its entry in the manifest. */
function mismatch(e) {
  const here = machineLibc();
  if (e.version !== version) return `was built for fused-grpo ${e.version}`;
  if (e.libc !== here.libc) return `was built for ${e.libc}, and this machine has ${here.libc}`;
  if (e.napi > Number(process.versions.napi))
    return `needs Node-API ${e.napi}, and Node.js ${process.version} has ${process.versions.napi}`;
  if (e.glibc && here.version && compareVersions(here.version, e.glibc) < 0)
    return `needs glibc ${e.glibc}, and this machine has ${here.version}`;
  if (!e.torch) return null;
  const torch = locateLibtorch();
  const found = torch && torchVersion(torch.folder);
  return found && found !== e.torch ? `needs libtorch ${e.torch}, and the one in ${torch.folder} is ${found}` : null;
}

/** The prebuilt addon for this machine: { kind, file, entry } or null; `passedOver` takes the reasons of those that do not fit. */
function findPrebuilt(name, passedOver = []) {
  for (const { kind, folder } of prebuiltFolders())
    for (const entry of (readManifest(folder)?.addons ?? []).filter((e) => e.addon === name)) {
      const file = join(folder, entry.file);
      const reason = existsSync(file) ? mismatch(entry) : 'is listed but not there';
      if (reason === null) return { kind, file, entry };
      passedOver.push(`${file} ${reason}`);
    }
  return null;
}

/** The file that an addon is loaded from: { kind: 'variable' | 'build' | 'prebuilt' | 'package', file }, or { kind: null, passedOver }. */
function findAddon(name) {
  const named = process.env[VARIABLES[name]];
  if (named) return { kind: 'variable', file: resolve(named) };
  if (existsSync(BUILT[name])) return { kind: 'build', file: BUILT[name] };
  const passedOver = [];
  return findPrebuilt(name, passedOver) ?? { kind: null, file: null, passedOver };
}

module.exports = { VARIABLES, BUILT, platform, machineLibc, findPrebuilt, findAddon };
