// What every test addon has, whatever its device: the core's ops by the CUDA kernels, the optimizer's and the sampler's.
import type { CoreAddon } from '../../lib/ops/addon.js';

export interface Settings {
  /** The row kernel, where there is a choice; undefined: as the kernels' own table says. */
  variant?: 'block' | 'cluster';
  /** Of the simulator alone: what is random, and the device that it is. */
  seed?: number;
  arch?: 'sm_80' | 'sm_90';
  multiprocessors?: number;
}

export interface BackendAddon extends CoreAddon {
  configure(settings: Settings): void;
  /** optimizer.cc */
  adamw(args: object): object;
  sample(args: object): object;
  /** The engine's load-time self-test: empty when it passes. */
  selfTest(): string;
}

/** What the addon for GPUs has besides (cuda/device.cc). */
export interface CudaAddon extends BackendAddon {
  /** Empty, or why no kernel can run here. */
  problem(): string;
  /** 90: sm_90. */
  architecture(): number;
}
