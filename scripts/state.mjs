// What is built, from what, and whether it is still current. Shared by build.mjs (to decide) and checks.mjs (to tell); runs nothing.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './deps.mjs';

export const path = (...parts) => join(root, ...parts);

/** The addons: what they are made of, where they and their stamps lie. A stamp is written last, so that it vouches for the product. */
export const PRODUCTS = {
  core: {
    inputs: [
      'binding.gyp',
      'scripts/nodedir',
      'native/math',
      'native/kernels',
      'native/parallel',
      'native/addon/core',
      'native/addon/common',
    ],
    file: path('build/Release/core.node'),
    stamp: path('build/core.json'),
  },
  engine: {
    inputs: ['CMakeLists.txt', 'native/math', 'native/kernels', 'native/torch', 'native/addon/engine', 'native/addon/common'],
    file: path('build-engine/Release/engine.node'),
    stamp: path('build-engine/engine.json'),
  },
};

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  if (!statSync(folder).isDirectory()) return [folder];
  return readdirSync(folder)
    .sort()
    .flatMap((name) => filesUnder(join(folder, name)));
}

/** A digest of the inputs' names and contents. */
export function sourceDigest(inputs) {
  const hash = createHash('sha256');
  for (const file of inputs.flatMap((i) => filesUnder(path(i)))) hash.update(file.slice(root.length) + '\0').update(readFileSync(file));
  return hash.digest('hex');
}

/** The stamp of a product, or null when there is none or it is unreadable. */
export function readStamp(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** { built, current, stamp } of an addon; `current` looks at the sources only. */
export function productState(name) {
  const { inputs, file, stamp: stampFile } = PRODUCTS[name];
  const stamp = readStamp(stampFile);
  const built = existsSync(file) && stamp !== null;
  return { built, current: built && stamp.sources === sourceDigest(inputs), stamp };
}
