// The fused loss against one copy of its logits by the same threads, and against forward and backward by libtorch operations.
import { core, engine } from '../native.js';
import { grpoArguments, grpoLoss, type GrpoLossBatch } from '../ops/grpo_loss.js';
import { selectiveLogp } from '../ops/selective_logp.js';
import type { LossConfig } from '../ops/types.js';
import { filled, logpGradient, number, relativeError } from './data.js';
import type { BenchContext, CaseResult, Op, Row } from './measure.js';
import { checkPeers } from './peers/check.js';
import { measureWithPeers, type OpenPeers, type Peers } from './peers/peers.js';

export interface LossShape {
  tokens: number;
  vocab: number;
  dtype: 'float32' | 'bfloat16';
  /** Share of the tokens that the mask selects. */
  selected: number;
  level: 'token' | 'sequence';
  /** Also by the kernels of lesser instruction sets. */
  everySimd?: boolean;
  /** Further losses, each beside its unfused twin. */
  losses?: Readonly<Record<string, LossConfig>>;
}

type Logits = Float32Array | Uint16Array;
const bytesOf = (a: Logits): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function batchOf(shape: LossShape, logits: Logits): GrpoLossBatch & { mask: Uint8Array; targets: Int32Array; advantages: Float32Array } {
  const { tokens, vocab, dtype, selected } = shape;
  const mask = Uint8Array.from({ length: tokens }, (_, i) => (Math.floor((i + 1) * selected) > Math.floor(i * selected) ? 1 : 0));
  return {
    ...{ logits, dtype, vocabSize: vocab, mask },
    targets: Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocab),
    advantages: new Float32Array([1, -1]),
    completionLength: tokens / 2,
  };
}

/** Largest error of the gradient's rows; on policy it is weight x advantage x (softmax - onehot), whatever the level of the ratio. */
function errorOf(source: Logits, gradient: Logits, batch: Batch, perSequence: boolean): number {
  const { vocabSize: vocab, mask, targets } = batch;
  const half = mask.length / 2;
  const counted = [0, 1].map((s) => mask.subarray(s * half, (s + 1) * half).reduce((n, m) => n + m, 0));
  let worst = 0;
  for (const sequence of [0, 1]) {
    const row = mask.indexOf(1, sequence * half);
    const weight = perSequence ? 1 / (2 * counted[sequence]!) : 1 / (counted[0]! + counted[1]!);
    const want = logpGradient((i) => number(source, row * vocab + i), vocab, targets[row]!);
    for (let i = 0; i < want.length; ++i) want[i]! *= weight * batch.advantages[sequence]!;
    worst = Math.max(
      worst,
      relativeError((i) => number(gradient, row * vocab + i), want),
    );
  }
  return worst;
}

type Batch = ReturnType<typeof batchOf>;

/** TRL's processes, with the same logits, targets, mask and advantages. */
function openLossPeers(peers: Peers, shape: LossShape, source: Logits, { targets, mask, advantages }: Batch): Promise<OpenPeers> {
  const { tokens, vocab, dtype, level } = shape;
  return peers.open(['loss'], (open) => ({
    ...{ tokens, vocab, dtype, level, lossType: level === 'sequence' ? 'grpo' : 'dapo', advantages: Array.from(advantages) },
    ...{ logits: open.write('logits', source), targets: open.write('targets', targets), mask: open.write('mask', mask) },
  }));
}

function withSimd(name: string, op: () => void): () => void {
  return () => {
    const usual = core().simd();
    core().useSimd(name);
    try {
      op();
    } finally {
      core().useSimd(usual);
    }
  };
}

export async function lossCase(shape: LossShape, context: BenchContext): Promise<CaseResult> {
  const { tokens, vocab, dtype, selected, level } = shape;
  const source = filled(tokens * vocab, dtype, 8);
  const logits = filled(tokens * vocab, dtype, 8);
  const copy = (): void => core().copy(bytesOf(logits), bytesOf(source));
  const batch = batchOf(shape, logits);
  const config: LossConfig = level === 'sequence' ? { lossType: 'grpo', importanceSamplingLevel: 'sequence' } : {};
  const fusedOp = (c: LossConfig) => () => void grpoLoss(batch, { ...c, inPlace: true });
  const unfusedOp = (c: LossConfig) => {
    const { native } = grpoArguments({ ...batch, logits: source, dtype }, { ...c, inPlace: false });
    return () => engine().unfusedGrpoLoss(native).milliseconds / 1000;
  };
  const further: Record<string, Op> = {};
  for (const [name, c] of Object.entries(shape.losses ?? {}))
    Object.assign(further, { [`grpoLoss ${name}, fused`]: fusedOp(c), [`${name}, unfused libtorch`]: unfusedOp(c) });
  // The row kernels of machines without AVX-512, on this one.
  if (shape.everySimd && core().simd() === 'avx512') further['grpoLoss, fused, with AVX2'] = withSimd('avx2', fusedOp(config));
  const rows = { logits, dtype, vocabSize: vocab, targets: batch.targets };
  const ops = {
    'copy of the logits': copy,
    'grpoLoss, fused': fusedOp(config),
    'selectiveLogp with entropy': () => void selectiveLogp({ ...rows, entropy: true }),
    'unfused libtorch': unfusedOp(config),
    ...further,
  };
  const error = (gradient: Logits): number => errorOf(source, gradient, batch, level === 'sequence');
  const open = context.peers && (await openLossPeers(context.peers, shape, source, batch));
  let result: Row[];
  try {
    result = await measureWithPeers(ops, open, { ...context, before: copy });
    copy();
    const { loss, metrics } = grpoLoss(batch, { ...config, inPlace: true });
    const ours = { loss, entropy: metrics.entropy!, gradients: { gradient: logits }, dtype };
    result[1]!.error = error(logits);
    result = await checkPeers(open, result, ours, (row, theirs) => (row.error = error(theirs.gradient!)));
  } finally {
    await open?.close();
  }
  const fused = result[1]!;
  // Least traffic: what is selected read (twice where a sequence's ratio comes first), everything written.
  const least = selected * (level === 'sequence' ? 2 : 1) + 1;
  fused.bandwidthShare = least / 2 / fused.perBaseline;
  const share = selected === 1 ? '' : `, ${100 * selected} % of the tokens selected`;
  return {
    case: 'loss',
    label: `T ${tokens}, V ${vocab}, ${dtype}, ${level} level${share}`,
    baseline: 'copy of the logits',
    rows: result,
    notes: open?.notes,
  };
}
