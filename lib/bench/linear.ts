// linearGrpoLoss (logits never whole) against its three matrix products alone, in the same chunks.
import { Tensor, tensorOps } from '../engine/tensor.js';
import { settle } from '../engine/call.js';
import { linearGrpoLoss, type LinearGrpoLossBatch } from '../ops/linear_grpo_loss.js';
import { filled, logpGradient, number, relativeError } from './data.js';
import type { BenchContext, CaseResult, Row } from './measure.js';
import { checkPeers, type OwnAnswer } from './peers/check.js';
import { measureWithPeers, type OpenPeers, type Peers } from './peers/peers.js';

export interface LinearShape {
  tokens: number;
  width: number;
  vocab: number;
  dtype: 'float32' | 'bfloat16';
  workspaceBytes: number;
}

type Numbers = Float32Array | Uint16Array;

/** d loss / d hidden of one row by fp64, on policy: weight x advantage x (softmax - onehot) W. */
function exactRow(hidden: Numbers, weight: Numbers, shape: LinearShape, row: number, target: number, factor: number): Float64Array {
  const { width, vocab } = shape;
  const z = new Float64Array(vocab);
  for (let v = 0; v < vocab; ++v) for (let h = 0; h < width; ++h) z[v]! += number(hidden, row * width + h) * number(weight, v * width + h);
  const g = logpGradient((i) => z[i]!, vocab, target);
  const gradient = new Float64Array(width);
  for (let v = 0; v < vocab; ++v) for (let h = 0; h < width; ++h) gradient[h]! += factor * g[v]! * number(weight, v * width + h);
  return gradient;
}

/** TRL's head with its log-probs fused and Liger's loss, with the same hidden states and weight. */
function openLinearPeers(
  peers: Peers,
  shape: LinearShape,
  arrays: Record<'hidden' | 'weight' | 'targets', Numbers | Int32Array>,
): Promise<OpenPeers> {
  const { tokens, width, vocab, dtype } = shape;
  return peers.open(['linear', 'liger'], (open) => ({
    ...{ tokens, width, vocab, dtype, level: 'token', lossType: 'dapo', advantages: [1, -1] },
    ...{ hidden: open.write('hidden', arrays.hidden), weight: open.write('weight', arrays.weight) },
    ...{ targets: open.write('targets', arrays.targets), mask: open.write('mask', new Uint8Array(tokens).fill(1)) },
  }));
}

/** Our answer, with a gradient of the head that nothing else has been added to. */
async function ownAnswer(batch: LinearGrpoLossBatch, { workspaceBytes, dtype }: LinearShape): Promise<OwnAnswer> {
  const { loss, metrics, gradHidden, gradWeight } = await linearGrpoLoss({ ...batch, gradWeight: undefined }, { workspaceBytes });
  const [hidden, weight] = (await Promise.all([gradHidden.toArray(), gradWeight!.toArray()])) as [Numbers, Numbers];
  gradHidden.dispose();
  gradWeight!.dispose();
  return { loss, entropy: metrics.entropy!, gradients: { gradHidden: hidden, gradWeight: weight }, dtype };
}

export async function linearCase(shape: LinearShape, context: BenchContext): Promise<CaseResult> {
  const { tokens, width, vocab, dtype, workspaceBytes } = shape;
  const [h, w] = [filled(tokens * width, dtype, 1), filled(vocab * width, dtype, 0.2, 11)];
  const hidden = Tensor.from(h, [tokens, width], { dtype });
  const weight = Tensor.from(w, [vocab, width], { dtype });
  const gradHidden = Tensor.uninitialised([tokens, width], hidden);
  const gradWeight = Tensor.zeros([vocab, width], 'cpu');
  const targets = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocab);
  const batch = { hidden, weight, gradWeight, targets, advantages: Float32Array.of(1, -1), completionLength: tokens / 2 };
  const native = {
    ...{ hidden: hidden.native, weight: weight.native, gradHidden: gradHidden.native, gradWeight: gradWeight.native },
    workspaceBytes,
  };
  const sequence = { lossType: 'grpo', importanceSamplingLevel: 'sequence' } as const;
  const loss = async (config: object): Promise<void> => (await linearGrpoLoss(batch, { workspaceBytes, ...config })).gradHidden.dispose();
  let open: OpenPeers | undefined;
  try {
    const ops = {
      'three matrix products': () => settle(() => tensorOps().linearProducts(native)),
      'linearGrpoLoss, fused': () => loss({}),
      'linearGrpoLoss, sequence level': () => loss(sequence),
    };
    open = context.peers && (await openLinearPeers(context.peers, shape, { hidden: h, weight: w, targets }));
    let rows: Row[] = await measureWithPeers(ops, open, context);
    const ours = await ownAnswer(batch, shape);
    const want = exactRow(h, w, shape, 0, targets[0]!, 1 / tokens);
    const error = (gradHidden: Numbers): number => relativeError((i) => number(gradHidden, i), want);
    rows[1]!.error = error(ours.gradients.gradHidden!);
    rows = await checkPeers(open, rows, ours, (row, theirs) => (row.error = error(theirs.gradHidden!)));
    const label = `${tokens} tokens, width ${width}, V ${vocab}, ${dtype}, workspace ${workspaceBytes / 2 ** 20} MB`;
    return { case: 'linear', label, baseline: 'three matrix products', rows, notes: open?.notes };
  } finally {
    await open?.close();
    for (const tensor of [hidden, weight, gradHidden, gradWeight]) tensor.dispose();
  }
}
