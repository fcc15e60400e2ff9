// Which libtorch this copy of the package uses, and which version a folder holds. Fetches and builds nothing.
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const { join, resolve } = require('node:path');
const { depsFolder } = require('./place.cjs');

const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
const holdsLibraries = (folder) => existsSync(join(folder, 'lib', 'libtorch_cpu.so'));

/** The version that the headers in `folder` declare, as 'major.minor.patch', or null. */
function torchVersion(folder) {
  const text = ['include/torch/headeronly/version.h', 'include/torch/csrc/api/include/torch/version.h']
    .map((name) => read(join(folder, name)))
    .find((t) => /define TORCH_VERSION_MAJOR/.test(t));
  if (!text) return null;
  return ['MAJOR', 'MINOR', 'PATCH'].map((p) => new RegExp(`TORCH_VERSION_${p} (\\d+)`).exec(text)?.[1] ?? '0').join('.');
}

/** A site-packages folder, or pip's --target folder, stands for the torch in it. */
function inner(folder) {
  const nested = join(folder, 'torch');
  return holdsLibraries(nested) ? nested : folder;
}

// A libtorch that was named once stays the choice: `npm test` after `build --torch DIR` must not fetch another.
const choiceFile = () => join(depsFolder(), 'libtorch.json');

function remembered() {
  try {
    const { folder } = JSON.parse(readFileSync(choiceFile(), 'utf8'));
    return holdsLibraries(folder) ? folder : null;
  } catch {
    return null;
  }
}

/** The folder that a build would take, without fetching or checking: { folder, why }, or null when pip would have to fetch one. */
function locateLibtorch() {
  if (process.env.LIBTORCH) return { folder: inner(resolve(process.env.LIBTORCH)), why: 'LIBTORCH' };
  const named = remembered();
  if (named) return { folder: named, why: 'named at an earlier build; --torch pip forgets it' };
  const fetched = join(depsFolder(), 'torch');
  return existsSync(join(fetched, '.set')) ? { folder: join(fetched, 'torch'), why: '' } : null;
}

module.exports = { torchVersion, inner, choiceFile, remembered, locateLibtorch };
