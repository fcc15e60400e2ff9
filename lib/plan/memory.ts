// The memory that a run needs, part by part, from the architecture and the options: what native/torch allocates, counted.
import type { NativeModelConfig } from '../engine/families.js';
import { parameterCount } from './parameters.js';
import { trainedShape, type TrainedShape } from './trained.js';

export interface MemoryShape {
  model: NativeModelConfig;
  dtype: 'float32' | 'bfloat16';
  /** Completions of one rollout, and of one optimizer step. */
  rolloutCompletions: number;
  stepCompletions: number;
  numGenerations: number;
  /** Tokens of the longest prompt, and of a completion at most. */
  promptTokens: number;
  maxCompletionLength: number;
  /** 0: chosen by the engine. */
  microBatchTokens: number;
  /** Of the option of that name. */
  workspaceBytes: number;
  fused: boolean;
  /** A second model is held and scored (beta above 0). */
  reference: boolean;
  /** PPO: a second model is trained. */
  critic?: boolean;
  /** Completions are scored before training on them: by the reference, or because a rollout is trained on more than once. */
  scored: boolean;
  /** The next rollout is sampled by a copy of the policy. */
  generateAhead: boolean;
  trained: TrainedShape;
  gradientCheckpointing: boolean;
  /** Bytes of the process before any model is there. */
  baseBytes: number;
}

export interface MemoryPart {
  name: string;
  bytes: number;
  /** What it is, in a few words. */
  note: string;
}

const CACHE_BLOCK = 64; // kCacheBlock
const CACHE_BUDGET = 2 * 2 ** 30; // kCacheBudget of native/torch/generate.cc
const WAVE_SEQUENCES = 512; // kMaxSequences
const SCORED_ROWS = 4096; // Policy.score's tokenBudget
const SCORED_LOGITS = 64 * 2 ** 20; // kLogitBytes of native/torch/score.cc
const UNFUSED_BUDGET = 24; // bytes for each logit that a micro-batch is cut by, unfused (Trainer::accumulate)
const UNFUSED_COPIES = 12; // measured: three float32 copies of the logits that autograd keeps
const ALLOCATOR = 1.1; // sizes are rounded up, and freed blocks kept for a while (native/torch/caching_allocator.h)

/** Bytes that a row (a token) of a micro-batch keeps for its gradient; as Trainer::bytes_per_row, without the logits. */
function rowBytes(c: NativeModelConfig, size: number): { layer: number; passing: number } {
  const [attended, joint] = [c.heads * c.headDim, (c.heads + 2 * c.kvHeads) * c.headDim];
  const inner = (c.gatedMlp ? 3 : 2) * c.intermediateSize;
  return { layer: (4 * c.hiddenSize + joint + attended + inner) * size, passing: (2 * inner + 2 * joint + 4 * c.hiddenSize) * size };
}

/** Keys and values of the sequences that are decoded at the same time. */
function cacheBytes(s: MemoryShape, size: number): number {
  const { model: c } = s;
  const position = 2 * c.layers * c.kvHeads * c.headDim * size;
  const blocks = (n: number) => Math.ceil(n / CACHE_BLOCK) * CACHE_BLOCK;
  const prompt = position * (blocks(s.promptTokens) + s.numGenerations * blocks(s.maxCompletionLength - 1));
  const prompts = s.rolloutCompletions / s.numGenerations;
  const together = Math.max(1, Math.min(prompts, Math.floor(CACHE_BUDGET / prompt), Math.floor(WAVE_SEQUENCES / s.numGenerations)));
  return prompt * together;
}

/** Tokens of a micro-batch: as many as are asked for, or as Trainer::row_budget chooses. */
export function microBatchTokensOf(s: Pick<MemoryShape, 'model' | 'dtype' | 'microBatchTokens' | 'fused' | 'trained'>): number {
  if (s.microBatchTokens > 0) return s.microBatchTokens;
  const { layer, passing } = rowBytes(s.model, s.dtype === 'float32' ? 4 : 2);
  const row = s.trained.layers * layer + passing + (s.fused ? 0 : UNFUSED_BUDGET * s.model.vocabSize);
  return Math.min(8192, Math.max(256, Math.floor(1.5e9 / row)));
}

/** Rows and completion tokens of the largest micro-batch, and whether there are several. */
function microBatch(s: MemoryShape): { rows: number; logits: number; several: boolean } {
  const prompts = Math.ceil(s.stepCompletions / s.numGenerations);
  const longest = s.promptTokens + s.maxCompletionLength - 1;
  const limit = Math.max(longest, microBatchTokensOf(s));
  const all = prompts * s.promptTokens + s.stepCompletions * (s.maxCompletionLength - 1);
  return {
    several: all > limit,
    rows: Math.min(limit, all),
    logits: Math.min(limit, s.stepCompletions * s.maxCompletionLength),
  };
}

function packedBytes(parameters: number): number {
  const limit = Number(process.env.FUSED_GRPO_PACKED_MB ?? 64);
  return parameters * 4e-6 <= limit ? parameters * 4 : 0;
}

function logitBytes({ model, fused, workspaceBytes }: MemoryShape, tokens: number, size: number): number {
  return fused ? Math.min(workspaceBytes, tokens * model.vocabSize * size) : tokens * model.vocabSize * (UNFUSED_COPIES + size);
}

/** The parts of a GRPO run's peak. They add up: freed memory of one phase is kept for the next. */
export function memoryParts(s: MemoryShape): MemoryPart[] {
  const n = parameterCount(s.model);
  const size = s.dtype === 'float32' ? 4 : 2;
  const { layer, passing } = rowBytes(s.model, size);
  const { rows, logits, several } = microBatch(s);
  // Bytes of a weight's gradient. A float32 backward's own gradients are taken over; of a second one they are added.
  const gradients = 4 + (several || size < 4 ? size : 0);
  const scoredRows = Math.min(SCORED_ROWS, s.rolloutCompletions * s.maxCompletionLength);
  const { weights: trained, adapter, adapted, layers } = s.trained;
  const packed = packedBytes(n);
  const kept = s.gradientCheckpointing ? layers * s.model.hiddenSize * size + layer : layers * layer;
  const parts: MemoryPart[] = [
    { name: 'process', bytes: s.baseBytes, note: 'Node.js, libtorch, the rows of the data' },
    { name: 'weights', bytes: n * size, note: s.dtype },
    { name: 'gradients', bytes: trained * gradients + adapter * 4, note: 'float32, and what a backward adds to them' },
    { name: 'moments', bytes: (trained + adapter) * 8, note: "AdamW's two, float32" },
    { name: 'master copies', bytes: s.dtype === 'float32' ? 0 : trained * 4, note: 'float32 weights of the optimizer' },
    { name: 'adapter', bytes: adapter * 4, note: 'float32' },
    { name: 'reference', bytes: s.reference ? n * size : 0, note: 'beta is above 0' },
    {
      name: 'critic',
      bytes: s.critic ? n * (size + gradients + 8 + (s.dtype === 'float32' ? 0 : 4)) : 0,
      note: 'weights, gradients and moments',
    },
    { name: 'sampler', bytes: s.generateAhead ? n * size : 0, note: 'generateAhead: a copy of the policy' },
    { name: 'KV cache', bytes: ALLOCATOR * cacheBytes(s, size), note: 'of the completions sampled together' },
    { name: 'packed weights', bytes: packed, note: 'for sampling with a small model' },
    { name: 'merged weights', bytes: packed > 0 ? 0 : adapted * size, note: 'for sampling with an adapter' },
    {
      name: 'scoring',
      bytes: s.scored ? ALLOCATOR * (scoredRows * passing + Math.min(SCORED_LOGITS, scoredRows * s.model.vocabSize * 4)) : 0,
      note: 'old or reference log-probs',
    },
    { name: 'micro-batch', bytes: ALLOCATOR * rows * (kept + passing), note: `activations of ${rows} tokens` },
    {
      name: 'logits',
      bytes: ALLOCATOR * logitBytes(s, logits, size),
      note: s.fused ? 'a part of the rows at a time (workspaceBytes)' : `of ${logits} tokens, unfused`,
    },
  ];
  return parts.filter((part) => part.bytes > 0);
}

export const totalBytes = (parts: readonly MemoryPart[]): number => parts.reduce((sum, part) => sum + part.bytes, 0);

export interface Saving {
  /** What to change, as options. */
  change: string;
  /** Bytes that the run needs then. */
  bytes: number;
}

/** Changes that make a run smaller, the largest saving first. */
export function savings(s: MemoryShape): Saving[] {
  const now = totalBytes(memoryParts(s));
  const micro = Math.max(s.promptTokens + s.maxCompletionLength - 1, Math.floor(microBatchTokensOf(s) / 8));
  const options: [string, Partial<MemoryShape>][] = [
    [`microBatchTokens: ${micro}`, { microBatchTokens: micro }],
    ["dtype: 'bfloat16'", { dtype: 'bfloat16' }],
    ['beta: 0 (no reference)', { reference: false, scored: s.scored && !s.reference }],
    [`maxCompletionLength: ${s.maxCompletionLength >> 1}`, { maxCompletionLength: Math.max(1, s.maxCompletionLength >> 1) }],
    ['fused: true', { fused: true }],
    ['gradientCheckpointing: true', { gradientCheckpointing: true }],
    [
      'loraRank: 16 (an adapter; the reference is its base)',
      s.trained.adapter > 0 ? {} : { trained: trainedShape(s.model, { loraRank: 16 }), reference: false },
    ],
    ['generateAhead: false', { generateAhead: false }],
    [`workspaceBytes: ${2 ** 25}`, { workspaceBytes: Math.min(s.workspaceBytes, 2 ** 25) }],
  ];
  return options
    .map(([change, more]) => ({ change, bytes: totalBytes(memoryParts({ ...s, ...more })) }))
    .filter(({ bytes }) => bytes < now * 0.98)
    .sort((a, b) => a.bytes - b.bytes);
}
