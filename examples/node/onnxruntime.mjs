// GRPO on a model that ONNX Runtime computes: one graph for the forward pass, one for the gradients of the weights from that of the
// logits. onnxruntime-node hands the logits over as a typed array; grpoLoss writes the gradient into that same memory, and the very tensor
// that held the logits is the second graph's input: after ONNX Runtime's own hand-over nothing of the vocabulary's size is copied.
//
//     npm install onnxruntime-node && node examples/node/onnxruntime.mjs
import assert from 'node:assert/strict';
import { grpoLoss } from 'fused-grpo';
import ort from 'onnxruntime-node';
import { onnxModel } from './onnx-graph.mjs';
import {
  adam,
  FEATURES,
  HIDDEN,
  inputs,
  LENGTH,
  mean,
  NUM_GENERATIONS,
  randomNumbers,
  rewardsOf,
  ROWS,
  sampleTokens,
  train,
  VOCAB,
  weights,
} from './task.mjs';

const shapes = { x: [ROWS, FEATURES], w1: [FEATURES, HIDDEN], w2: [HIDDEN, VOCAB], hidden: [ROWS, HIDDEN], logits: [ROWS, VOCAB] };

// logits = tanh(x w1) w2
const forwardGraph = onnxModel({
  inputs: { x: shapes.x, w1: shapes.w1, w2: shapes.w2 },
  outputs: { hidden: shapes.hidden, logits: shapes.logits },
  nodes: [
    { op: 'MatMul', inputs: ['x', 'w1'], output: 'before' },
    { op: 'Tanh', inputs: ['before'], output: 'hidden' },
    { op: 'MatMul', inputs: ['hidden', 'w2'], output: 'logits' },
  ],
});
// What calculus makes of it: from the gradient of the logits to those of both weights.
const backwardGraph = onnxModel({
  inputs: { x: shapes.x, w2: shapes.w2, hidden: shapes.hidden, gradLogits: shapes.logits },
  outputs: { gradW1: shapes.w1, gradW2: shapes.w2 },
  nodes: [
    { op: 'Gemm', inputs: ['hidden', 'gradLogits'], output: 'gradW2', attributes: { transA: 1 } },
    { op: 'Gemm', inputs: ['gradLogits', 'w2'], output: 'gradHidden', attributes: { transB: 1 } },
    { op: 'Mul', inputs: ['hidden', 'hidden'], output: 'squared' },
    { op: 'Mul', inputs: ['gradHidden', 'squared'], output: 'lost' },
    { op: 'Sub', inputs: ['gradHidden', 'lost'], output: 'gradBefore' },
    { op: 'Gemm', inputs: ['x', 'gradBefore'], output: 'gradW1', attributes: { transA: 1 } },
  ],
});

const forward = await ort.InferenceSession.create(forwardGraph);
const backward = await ort.InferenceSession.create(backwardGraph);
const random = randomNumbers(1);
const w1 = weights(FEATURES * HIDDEN, 1, random);
const w2 = weights(HIDDEN * VOCAB, 0.1, random);
const updates = [adam(w1, 0.02), adam(w2, 0.02)];

/** A view of memory that is ours: ONNX Runtime reads it where it lies, so that it sees every update. */
const tensor = (name, data) => new ort.Tensor('float32', data, shapes[name]);
const fixed = { x: tensor('x', inputs()), w1: tensor('w1', w1), w2: tensor('w2', w2) };

await train('ONNX Runtime', 150, async () => {
  const { logits, hidden } = await forward.run(fixed);
  const targets = sampleTokens(logits.data, random);
  const rewards = rewardsOf(targets);

  const batch = { logits: logits.data, vocabSize: VOCAB, targets, rewards, numGenerations: NUM_GENERATIONS, completionLength: LENGTH };
  const { gradLogits } = grpoLoss(batch, { lossType: 'dapo', epsilon: 0.2, epsilonHigh: 0.28 });
  assert.ok(gradLogits.buffer === logits.data.buffer, 'the gradient was written where the logits were');

  const { x, w2: head } = fixed;
  const { gradW1, gradW2 } = await backward.run({ x, w2: head, hidden, gradLogits: logits });
  updates[0](gradW1.data);
  updates[1](gradW2.data);
  return mean(rewards);
});
await forward.release();
await backward.release();
