import type { NativeMetrics } from '../ops/addon.js';

/** What the engine addon exports (native/addon/engine). */
export interface EngineAddon {
  /** The unfused twin of the core's grpoLoss: same arguments; advantages must be given. Milliseconds: forward and backward. */
  unfusedGrpoLoss(args: object): { logps: Float32Array; entropies?: Float32Array; metrics: NativeMetrics; milliseconds: number };
  info(): { torchVersion: string; threads: number };
}
