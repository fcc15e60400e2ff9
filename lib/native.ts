// The only file that loads an addon. Loading is lazy and never throws at import: a call that needs an addon that is not there, or not
// made for this package and machine, throws ERR_NOT_BUILT with the reason and the command that mends it.
import bindings from 'bindings';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { addonScripts, type AddonName } from './addons.js';
import { FusedGrpoError } from './errors.js';
import { packageRoot } from './place.js';
import { inThisRealm } from './realm.js';
import type { CoreAddon } from './ops/addon.js';
import type { EngineAddon } from './engine/addon.js';

export { packageRoot };
export type { AddonName };

const loaded: Partial<Record<AddonName, unknown>> = {};

/** The addon's file: where the loader looks for it; that of a build where there is none. */
export const addonFile = (name: AddonName): string => addonScripts().findAddon(name).file ?? addonScripts().BUILT[name];

const notBuilt = (name: AddonName, why: string, act: string, cause?: unknown): FusedGrpoError =>
  new FusedGrpoError('ERR_NOT_BUILT', `The ${name} addon ${why}. ${act}`, { cause });

/** An engine that was not built here has no path to libtorch in it: the core opens that first. */
function openLibtorch(): void {
  const torch = addonScripts().locateLibtorch();
  const file = torch && join(torch.folder, 'lib', 'libtorch_cpu.so');
  if (file && existsSync(file)) (load('core') as CoreAddon).openLibrary(file);
}

function load(name: AddonName): unknown {
  if (loaded[name]) return loaded[name];
  const { file, kind, identity, why, act } = addonScripts().judge(name);
  if (!file || why !== undefined) throw notBuilt(name, why ?? 'is not there', act ?? '');
  // libtorch's OpenMP threads must not spin between regions: on a busy machine that costs more than it gains (docs/LOG.md).
  if (name === 'engine') process.env.OMP_WAIT_POLICY ??= 'PASSIVE';
  try {
    if (identity?.torch && kind !== 'build') openLibtorch();
    const addon = bindings({ bindings: basename(file), module_root: dirname(file), try: [['module_root', 'bindings']] }) as object;
    return (loaded[name] = name === 'core' ? inThisRealm(addon) : addon); // the engine's calls end in engine/call.ts
  } catch (cause) {
    if (cause instanceof FusedGrpoError) throw cause;
    const meaning = addonScripts().explain(name, kind, cause instanceof Error ? cause.message : String(cause));
    throw notBuilt(name, meaning.why, meaning.act, cause);
  }
}

let substitute: CoreAddon | undefined;
/** The core addon: functional ops on typed arrays. */
export const core = (): CoreAddon => substitute ?? (load('core') as CoreAddon);
/** For tests: functional ops run on another addon with the same exports (a CUDA backend); undefined ends that. @internal */
export const substituteCore = (addon: CoreAddon | undefined): void => void (substitute = addon);
/** The engine addon: models, sampling and training by libtorch. */
export const engine = (): EngineAddon => load('engine') as EngineAddon;
