// linearGrpoLoss (logits never whole) against its three matrix products alone, in the same chunks.
import { Tensor, tensorOps } from '../engine/tensor.js';
import { settle } from '../engine/call.js';
import { linearGrpoLoss } from '../ops/linear_grpo_loss.js';
import { filled, logpGradient, number, relativeError } from './data.js';
import { measure, type BenchContext, type CaseResult } from './measure.js';

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
  try {
    const rows = await measure(
      {
        'three matrix products': () => settle(() => tensorOps().linearProducts(native)),
        'linearGrpoLoss, fused': () => loss({}),
        'linearGrpoLoss, sequence level': () => loss(sequence),
      },
      context,
    );
    const result = await linearGrpoLoss(batch, { workspaceBytes });
    const got = (await result.gradHidden.toArray()) as Numbers;
    const want = exactRow(h, w, shape, 0, targets[0]!, 1 / tokens);
    rows[1]!.error = relativeError((i) => number(got, i), want);
    result.gradHidden.dispose();
    const label = `${tokens} tokens, width ${width}, V ${vocab}, ${dtype}, workspace ${workspaceBytes / 2 ** 20} MB`;
    return { case: 'linear', label, baseline: 'three matrix products', rows };
  } finally {
    for (const tensor of [hidden, weight, gradHidden, gradWeight]) tensor.dispose();
  }
}
