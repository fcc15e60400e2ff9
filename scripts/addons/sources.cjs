// What each addon is made of, and a digest of it: the addon carries it, so that one made of other sources is noticed.
'use strict';
const { createHash } = require('node:crypto');
const { existsSync, readFileSync, readdirSync, statSync } = require('node:fs');
const { join } = require('node:path');
const { root } = require('./place.cjs');

const INPUTS = {
  core: ['binding.gyp', 'scripts/nodedir', 'native/math', 'native/kernels', 'native/parallel', 'native/addon/core', 'native/addon/common'],
  engine: ['CMakeLists.txt', 'native/math', 'native/kernels', 'native/torch', 'native/addon/engine', 'native/addon/common'],
};

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  if (!statSync(folder).isDirectory()) return [folder];
  return readdirSync(folder)
    .sort()
    .flatMap((name) => filesUnder(join(folder, name)));
}

/** A digest of the inputs' names and contents. */
function sourceDigest(inputs) {
  const hash = createHash('sha256');
  for (const file of inputs.flatMap((i) => filesUnder(join(root, i))))
    hash.update(file.slice(root.length) + '\0').update(readFileSync(file));
  return hash.digest('hex');
}

module.exports = { INPUTS, sourceDigest };
