/** What the engine addon exports (native/addon/engine). */
export interface EngineAddon {
  info(): { torchVersion: string; threads: number };
}
