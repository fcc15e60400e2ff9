// What is built, from what, and whether it is still current. Shared by build.mjs (to decide) and checks.mjs (to tell); runs nothing.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import addons from './addons/index.cjs';
import sources from './addons/sources.cjs';
import { root } from './deps.mjs';

export const sourceDigest = sources.sourceDigest;
export const path = (...parts) => join(root, ...parts);

/** The addons: what they are made of, where they and their stamps lie. A stamp is written last, so that it vouches for the product. */
export const PRODUCTS = {
  core: {
    inputs: sources.INPUTS.core,
    file: addons.BUILT.core,
    stamp: path('build/core.json'),
  },
  engine: {
    inputs: sources.INPUTS.engine,
    file: addons.BUILT.engine,
    stamp: path('build-engine/engine.json'),
  },
};

/** The stamp of a product, or null when there is none or it is unreadable. */
export function readStamp(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** { built, current, stamp } of an addon; `current` looks at the sources and the package's version, as the addon itself states them. */
export function productState(name) {
  const { inputs, file, stamp: stampFile } = PRODUCTS[name];
  const stamp = readStamp(stampFile);
  const built = existsSync(file) && stamp !== null;
  const current = built && stamp.sources === sourceDigest(inputs) && stamp.settings.version === addons.version;
  return { built, current, stamp };
}
