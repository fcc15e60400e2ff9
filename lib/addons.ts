// What scripts/addons/ (CommonJS, shared with build and doctor) tells of addons, typed.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { FusedGrpoError } from './errors.js';
import { packageRoot } from './place.js';

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

let loaded: AddonScripts | undefined;
/** @throws FusedGrpoError ERR_NOT_BUILT in a bundle that runs where the package is not installed */
export function addonScripts(): AddonScripts {
  try {
    return (loaded ??= createRequire(join(packageRoot, 'package.json'))('./scripts/addons/index.cjs') as AddonScripts);
  } catch (cause) {
    throw new FusedGrpoError(
      'ERR_NOT_BUILT',
      `The folder of fused-grpo was not found (looked from ${packageRoot}): it was bundled, and its addons cannot be. Mark it as external ` +
        '(esbuild --external:fused-grpo, externals of webpack, external of rollup, ssr.external of vite) and install it where the bundle runs',
      { cause },
    );
  }
}
