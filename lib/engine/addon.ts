import type { NativeMetrics } from '../ops/addon.js';
import type { NativeTraining } from './training.js';

import type { NativeModelConfig } from './config.js';

/** A native call under way: abort() asks it to stop between tokens or micro-batches; the promise then rejects with code ERR_ABORTED. */
export interface NativeCall<T> {
  promise: Promise<T>;
  abort(): void;
}

/** Sequences of token ids end to end; offsets has one entry more than there are sequences. */
export interface TokenLists {
  tokens: Int32Array;
  offsets: Int32Array;
}

export interface NativeGenerateOptions {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  seed: number;
  step: number;
  numGenerations: number;
  maxNewTokens: number;
  /** Number of the first prompt in the random numbers' coordinates. */
  promptOffset: number;
  eosTokenIds: Int32Array;
  stop: string[];
  /** false: as if the model had no adapter. Default true. */
  adapter?: boolean;
}

export interface NativeCompletion {
  tokens: Int32Array;
  logps: Float32Array;
  stopped: boolean;
  /** Byte of the completion at which a stop string begins, -1 without one. */
  stopAt: number;
}

/** How a new scalar head begins: normal with this standard deviation, by a seed. */
export interface NewHead {
  std: number;
  seed: number;
}

export interface NativeTensorCopy {
  name: string;
  shape: number[];
  data: Float32Array;
}

/** native/addon/engine/model_handle.h */
export interface NativeModel extends NativeTraining {
  /** `scalarHead`: the model has score.weight in place of a language model's head (true: in the files; else how a new one begins). */
  load(
    config: NativeModelConfig,
    files: string[],
    dtype: string,
    scalarHead?: true | NewHead,
  ): NativeCall<{ parameters: number; bytes: number }>;
  save(file: string): NativeCall<void>;
  dispose(): void;
  parameters(): NativeCall<NativeTensorCopy[]>;
  addAdapter(options: { modules: string[]; rank: number; scale: number; seed: number }): NativeCall<void>;
  loadAdapter(file: string, options: { rank: number; scale: number }): NativeCall<void>;
  saveAdapter(file: string): NativeCall<void>;
  mergeAdapter(): NativeCall<void>;
  /** A and B of every module that has an adapter. */
  adapter(): NativeCall<NativeTensorCopy[]>;
  logits(sequences: TokenLists): NativeCall<Float32Array>;
  gradients(sequences: TokenLists): NativeCall<{ loss: number; gradients: Record<string, Float32Array> }>;
  score(
    prompts: TokenLists,
    completions: TokenLists,
    options: { temperature: number; entropy: boolean; tokenBudget: number; adapter?: boolean },
  ): NativeCall<{ logps: Float32Array; entropies?: Float32Array }>;
  setTokenBytes(table: { bytes: Uint8Array; offsets: Int32Array }): void;
  /** With a scalar head: (sequences) values after the last token, or (completion tokens) values of the states before them. */
  values(
    prompts: TokenLists,
    completions: TokenLists,
    options: { positions: 'last' | 'completion'; tokenBudget: number },
  ): NativeCall<Float32Array>;
  /** Copies the weights into a model that has none yet; with `scalarHead`, that head takes the language model's place. */
  cloneInto(target: NativeModel, scalarHead?: NewHead): NativeCall<void>;
  generate(prompts: TokenLists, options: NativeGenerateOptions): NativeCall<NativeCompletion[]>;
}

/** native/addon/engine/tensor.h */
export interface NativeTensor {
  dispose(): void;
}

export interface NativeTensorOps {
  read(tensor: NativeTensor): NativeCall<Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array>;
  /** The core's arguments with native tensors for logits and gradLogits. */
  selectiveLogp(args: object): NativeCall<{ logps: Float32Array; lse: Float32Array; entropies?: Float32Array }>;
  selectiveLogpBackward(args: object): NativeCall<void>;
  grpoLoss(args: object): NativeCall<{ logps: Float32Array; entropies?: Float32Array; metrics: NativeMetrics }>;
  /** For benchmarks: the three matrix products of linearGrpoLoss alone. */
  linearProducts(args: object): NativeCall<void>;
  linearGrpoLoss(args: object): NativeCall<{ logps: Float32Array; entropies?: Float32Array; metrics: NativeMetrics }>;
  /** Of the ranks of a group, in place. */
  allReduce(group: NativeGroup, tensors: NativeTensor[], mean: boolean): NativeCall<void>;
  broadcast(group: NativeGroup, tensors: NativeTensor[], root: number): NativeCall<void>;
}

/** So far, of one rank. */
export interface ExchangeStatistics {
  /** Handed over to the others. */
  bytes: number;
  /** Seconds until the last of them came. */
  waiting: number;
  /** Seconds of exchange that was not hidden behind other work. */
  exchanging: number;
}

/** native/addon/engine/group.h: the processes of a data parallel run. */
export interface NativeGroup {
  /** `timeout`: milliseconds. `serve`: this process holds the meeting point. `ncclOnly`: for tests. */
  join(options: {
    rank: number;
    worldSize: number;
    host: string;
    port: number;
    serve: boolean;
    prefix: string;
    timeout: number;
    ncclOnly: boolean;
  }): NativeCall<void>;
  gather(bytes: Uint8Array): NativeCall<Uint8Array[]>;
  fromFirst(bytes: Uint8Array): NativeCall<Uint8Array>;
  meet(): NativeCall<void>;
  setStep(step: number): void;
  fail(message: string): NativeCall<void>;
  /** fail() of a process that ends: takes at most a second. */
  lastWords(message: string): void;
  /** Who is alive and has not come to the meeting that this rank waits at, or ''. */
  awaited(): string;
  statistics(): ExchangeStatistics;
  leave(): NativeCall<void>;
}

/** What the engine addon exports (native/addon/engine). */
export interface EngineAddon {
  /** The unfused twin of the core's grpoLoss: same arguments; advantages must be given. Milliseconds: forward and backward. */
  unfusedGrpoLoss(args: object): { logps: Float32Array; entropies?: Float32Array; metrics: NativeMetrics; milliseconds: number };
  /** The unfused twins of the core's valueLoss and preferenceLoss: same arguments, gradients by autograd. */
  unfusedValueLoss(args: object): { loss: number; gradValues: Float64Array };
  unfusedPreferenceLoss(args: object): { loss: number; gradChosen: Float64Array; gradRejected: Float64Array };
  /** The optimizer's kernels on one tensor, in place (bfloat16 as Uint16Array with a float32 master): for tests. Returns the gradient's norm. */
  adamwStep(args: {
    parameter: Float32Array | Uint16Array;
    master?: Float32Array;
    gradient: Float32Array;
    moment1: Float32Array;
    moment2: Float32Array;
    step: number;
    learningRate: number;
    beta1: number;
    beta2: number;
    epsilon: number;
    weightDecay: number;
    gradientScale: number;
  }): number;
  info(): {
    torchVersion: string;
    threads: number;
    cuda: boolean;
    cudaReason?: string;
    cudaArchitectures: string[];
    devices: { name: string; description?: string; memoryBytes?: number; computeCapability?: string }[];
  };
  Group: new () => NativeGroup;
  Tensor: new (data: ArrayBufferView | null, shape: number[], dtype: string, device: string) => NativeTensor;
  TensorOps: new () => NativeTensorOps;
  Model: new (options: { threads: number }) => NativeModel;
}
