// Where the package lies, and which copy of it an object comes from.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

// A bundle that is an ES module has no __dirname.
const here = typeof __dirname === 'undefined' ? process.cwd() : __dirname;

const isOurs = (folder: string): boolean => {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string }).name === 'fused-grpo';
  } catch {
    return false;
  }
};

/** lib/ and dist/cjs/ lie one and two levels below the package's folder; a bundle lies anywhere, and the package where it is installed. */
function findRoot(): string {
  const above = [join(here, '..'), join(here, '..', '..')].find((folder) => isOurs(folder) && existsSync(join(folder, 'scripts')));
  if (above) return above;
  for (const from of [here, process.cwd()])
    try {
      return dirname(createRequire(join(from, 'bundle.js')).resolve('fused-grpo/package.json'));
    } catch {
      // not installed there
    }
  return here;
}

/** The package's own folder. */
export const packageRoot: string = findRoot();

const COPY = Symbol.for('fused-grpo.copy');
/** This load of this copy. */
const own = { folder: packageRoot };

/** Marks the instances of a class as this copy's: two copies of the package in one process share neither classes nor native memory. */
export function ofThisCopy(constructor: { prototype: object }): void {
  Object.defineProperty(constructor.prototype, COPY, { value: own });
}

/** The folder of the other copy that an object comes from: another version, or this one loaded a second time. */
export function otherCopy(value: object): string | undefined {
  const copy = (value as { [COPY]?: { folder: string } })[COPY];
  return copy && copy !== own ? copy.folder : undefined;
}
