// What scripts/addons/ (CommonJS, shared with build and doctor) tells of addons, typed, and where the package lies.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { FusedGrpoError } from './errors.js';

export type AddonName = 'core' | 'engine';

/** The file an addon is loaded from, or why there is none that can be. */
interface Verdict {
  file: string | null;
  /** Named by a variable, built in the package's folder, or prebuilt (in this package or the platform's). null: there is none. */
  kind: 'variable' | 'build' | 'prebuilt' | 'package' | null;
  identity?: { version: string; torch: string };
  why?: string;
  act?: string;
}

interface AddonScripts {
  judge(name: AddonName): Verdict;
  explain(name: AddonName, kind: Verdict['kind'], message: string): { why: string; act: string };
  findAddon(name: AddonName): { file: string | null };
  locateLibtorch(): { folder: string } | null;
  BUILT: Record<AddonName, string>;
}

const isOurs = (folder: string): boolean => {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: string }).name === 'fused-grpo';
  } catch {
    return false;
  }
};

/** lib/ and dist/cjs/ lie one and two levels below the package's folder; a bundle lies anywhere, and the package where it is installed. */
function findRoot(): string {
  const beside = [join(__dirname, '..'), join(__dirname, '..', '..')].find((folder) => isOurs(folder) && existsSync(join(folder, 'scripts')));
  if (beside) return beside;
  for (const from of [join(__dirname, 'bundle.js'), join(process.cwd(), 'index.js')])
    try {
      return dirname(createRequire(from).resolve('fused-grpo/package.json'));
    } catch {
      // not installed there
    }
  return __dirname;
}

/** The package's own folder. */
export const packageRoot: string = findRoot();

let loaded: AddonScripts | undefined;
/** @throws FusedGrpoError ERR_NOT_BUILT in a bundle that runs where the package is not installed */
export function addonScripts(): AddonScripts {
  try {
    return (loaded ??= createRequire(join(packageRoot, 'package.json'))('./scripts/addons/index.cjs') as AddonScripts);
  } catch (cause) {
    throw new FusedGrpoError(
      'ERR_NOT_BUILT',
      `The folder of fused-grpo was not found from ${__dirname}: it was bundled, and its addons cannot be. Mark it as external ` +
        "(esbuild --external:fused-grpo; webpack externals; rollup external; vite ssr.external) and install it where the bundle runs",
      { cause },
    );
  }
}
