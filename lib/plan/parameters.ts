// How many weights a model of a given architecture has, without opening its files.
import type { NativeModelConfig } from '../engine/families.js';

/** Of one layer. */
export function layerParameters(c: NativeModelConfig): number {
  const [attended, joint] = [c.heads * c.headDim, (c.heads + 2 * c.kvHeads) * c.headDim];
  const attention = c.hiddenSize * (joint + attended) + (c.qkvBias ? joint : 0) + (c.outBias ? c.hiddenSize : 0);
  const wide = c.gatedMlp ? 2 : 1; // gate and up, or one
  const mlp = (wide + 1) * c.hiddenSize * c.intermediateSize + (c.mlpBias ? wide * c.intermediateSize + c.hiddenSize : 0);
  const norms = (c.postNorms ? 4 : 2) * normParameters(c) + (c.qkNorm ? 2 * c.headDim : 0);
  return attention + mlp + norms;
}

const normParameters = (c: NativeModelConfig): number => (c.layerNorm ? 2 : 1) * c.hiddenSize;

/** Number of weights; a tied head counts once. */
export function parameterCount(c: NativeModelConfig): number {
  const embeddings = (c.vocabSize * (c.tiedHead ? 1 : 2) + (c.learnedPositions ? c.maxPositions : 0)) * c.hiddenSize;
  return embeddings + c.layers * layerParameters(c) + normParameters(c);
}
