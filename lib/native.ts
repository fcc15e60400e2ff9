// The only file that loads an addon. Loading is lazy and never throws at import: a call that needs an addon that is not there
// throws ERR_NOT_BUILT with the command that builds it.
import bindings from 'bindings';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FusedGrpoError } from './errors.js';
import type { CoreAddon } from './ops/addon.js';
import type { EngineAddon } from './engine/addon.js';

/** The package's own folder (lib/ and dist/cjs/ lie one and two levels below it). */
export const packageRoot: string = existsSync(join(__dirname, '..', 'binding.gyp')) ? join(__dirname, '..') : join(__dirname, '..', '..');

export type AddonName = 'core' | 'engine';
const folder: Record<AddonName, string> = { core: 'build/Release', engine: 'build-engine/Release' };
const loaded: Partial<Record<AddonName, unknown>> = {};

/** The addon's file: where the loader looks for it. */
export function addonFile(name: AddonName): string {
  return join(packageRoot, folder[name], `${name}.node`);
}

function load(name: AddonName): unknown {
  if (loaded[name]) return loaded[name];
  // libtorch's OpenMP threads must not spin between regions: on a busy machine that costs more than it gains (docs/LOG.md).
  if (name === 'engine') process.env.OMP_WAIT_POLICY ??= 'PASSIVE';
  try {
    return (loaded[name] = bindings({ bindings: name, module_root: packageRoot, try: [['module_root', folder[name], 'bindings']] }));
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    const why = existsSync(addonFile(name)) ? `could not be loaded (${message})` : 'is not built';
    throw new FusedGrpoError('ERR_NOT_BUILT', `The ${name} addon ${why}. Run: npx fused-grpo build`, { cause });
  }
}

let substitute: CoreAddon | undefined;
/** The core addon: functional ops on typed arrays. */
export const core = (): CoreAddon => substitute ?? (load('core') as CoreAddon);
/** For tests: functional ops run on another addon with the same exports (a CUDA backend); undefined ends that. @internal */
export const substituteCore = (addon: CoreAddon | undefined): void => void (substitute = addon);
/** The engine addon: models, sampling and training by libtorch. */
export const engine = (): EngineAddon => load('engine') as EngineAddon;
