/** What the core addon exports (native/addon/core). */
export interface CoreAddon {
  version: string;
}
