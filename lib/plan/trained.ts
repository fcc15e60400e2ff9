// What of a model is trained, counted from its architecture alone.
import { selectModules } from '../engine/adapter.js';
import type { NativeModelConfig } from '../engine/families.js';
import { layerParameters, parameterCount } from './parameters.js';

export interface TrainedShape {
  /** Weights of the model itself. */
  weights: number;
  /** Numbers of A and B of a LoRA adapter. */
  adapter: number;
  /** Weights that have an adapter: sampling with a larger model copies them. */
  adapted: number;
  /** Layers that keep something for the backward pass. */
  layers: number;
}

/** Inputs and outputs of a layer's projections, by the ends of their names. */
function projections(c: NativeModelConfig): Record<string, [number, number]> {
  const [attended, kv] = [c.heads * c.headDim, c.kvHeads * c.headDim];
  const [h, inner] = [c.hiddenSize, c.intermediateSize];
  return c.naming === 'gpt2'
    ? { 'attn.c_attn': [h, 3 * h], 'attn.c_proj': [h, h], 'mlp.c_fc': [h, inner], 'mlp.c_proj': [inner, h] }
    : {
        ...{
          'self_attn.q_proj': [h, attended],
          'self_attn.k_proj': [h, kv],
          'self_attn.v_proj': [h, kv],
          'self_attn.o_proj': [attended, h],
        },
        ...{ 'mlp.gate_proj': [h, inner], 'mlp.up_proj': [h, inner], 'mlp.down_proj': [inner, h] },
      };
}

export interface TrainedOptions {
  loraRank?: number;
  loraTargetModules?: readonly string[];
  freezeLayers?: number;
}

/** trainableParameters are not looked at, as names are in the weights' files: everything counts as trained. */
export function trainedShape(c: NativeModelConfig, { loraRank, loraTargetModules, freezeLayers = 0 }: TrainedOptions): TrainedShape {
  const layers = c.layers - Math.min(freezeLayers, c.layers);
  if (loraRank === undefined) {
    const above = layers * layerParameters(c) + (c.layerNorm ? 2 : 1) * c.hiddenSize + (c.tiedHead ? 0 : c.vocabSize * c.hiddenSize);
    return { weights: freezeLayers > 0 ? above : parameterCount(c), adapter: 0, adapted: 0, layers };
  }
  const sizes = projections(c);
  const prefix = c.naming === 'gpt2' ? 'transformer.h' : 'model.layers';
  const all = Array.from({ length: c.layers }, (_, i) => Object.keys(sizes).map((name) => `${prefix}.${i}.${name}`)).flat();
  const chosen = selectModules(loraTargetModules ?? 'all-linear', all, freezeLayers).map(
    (name) => sizes[name.split('.').slice(-2).join('.')]!,
  );
  return {
    weights: 0,
    adapter: chosen.reduce((n, [inputs, outputs]) => n + loraRank * (inputs + outputs), 0),
    adapted: chosen.reduce((n, [inputs, outputs]) => n + inputs * outputs, 0),
    layers,
  };
}
