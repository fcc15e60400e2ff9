/** What the core addon exports (native/addon/core). Flat arguments, validated by lib/ops; sizes are checked again there. */
export interface CoreAddon {
  version: string;
  /** Opens a shared library for good, so that an addon that needs it finds it by its name. */
  openLibrary(file: string): void;
  /** The instruction set of the row sweeps: 'avx512' | 'avx2' | 'neon' | 'portable' (FUSED_GRPO_SIMD overrides). */
  simd(): string;
  /** Threads of the core's pool (FUSED_GRPO_THREADS, else all available cores). */
  threads(): number;
  /** Copies bytes with the pool's threads: what benchmarks compare with. */
  copy(target: Uint8Array, source: Uint8Array): void;
  /** For tests: switches the instruction set; false when this machine lacks it. */
  useSimd(name: string): boolean;
  /** For tests: policyLoss in float64 throughout. */
  policyLossExact(args: object): { loss: number; gradLogps: Float64Array; gradEntropies: Float64Array };
  groupAdvantages(args: object): NativeAdvantages;
  gae(args: object): { advantages: Float32Array; returns: Float32Array };
  valueLoss(args: object): { gradValues: Float32Array; totals: NativeTotals };
  preferenceLoss(args: object): { gradChosen: Float32Array; gradRejected: Float32Array; totals: NativeTotals };
  passAtKAdvantages(args: object): { advantages: Float32Array; passAtK: Float32Array };
  processAdvantages(args: object): NativeAdvantages;
  multiRewardAdvantages(args: object): NativeAdvantages;
  rewardsWithKl(args: object): { rewards: Float64Array };
  selectiveLogp(args: object): { logps: Float32Array; lse: Float32Array; entropies?: Float32Array };
  selectiveLogpBackward(args: object): void;
  policyLoss(args: object): { gradLogps: Float32Array; gradEntropies?: Float32Array; metrics: NativeMetrics };
  grpoLoss(args: object): {
    logps: Float32Array;
    entropies?: Float32Array;
    advantages: Float32Array;
    metrics: NativeMetrics;
  } & Partial<Omit<NativeAdvantages, 'advantages'>>;
}

/** Sums of the ops of value_ops.h (fp64). */
export interface NativeTotals {
  loss: number;
  margin: number;
  count: number;
  clipped: number;
  ranked: number;
}

export interface NativeAdvantages {
  advantages: Float32Array;
  mean: Float32Array;
  std: Float32Array;
  zeroStd: Uint8Array;
}

/** Sums over the selected tokens (fp64). */
export interface NativeMetrics {
  loss: number;
  kl: number;
  entropy: number;
  ratio: number;
  ratioMin: number;
  ratioMax: number;
  tokens: number;
  sequences: number;
  clippedLow: number;
  clippedHigh: number;
}
