// The model families: what each one's config.json says about the native transformer.
import { describe, fail, type Reader } from './config_reader.js';

/** Rotary embedding, as native code takes it (native/torch/model/config.h). */
export interface RopeConfig {
  type: 'default' | 'linear' | 'llama3' | 'yarn';
  theta: number;
  factor: number;
  lowFreqFactor: number;
  highFreqFactor: number;
  originalMaxPositions: number;
  betaFast: number;
  betaSlow: number;
  attentionFactor: number;
  truncate: boolean;
}

/** The architecture as plain data, as native code takes it. */
export interface NativeModelConfig {
  naming: 'llama' | 'gpt2';
  vocabSize: number;
  hiddenSize: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  intermediateSize: number;
  maxPositions: number;
  normEps: number;
  layerNorm: boolean;
  normOffset: number;
  activation: 'silu' | 'gelu_tanh' | 'gelu' | 'relu';
  gatedMlp: boolean;
  qkvBias: boolean;
  outBias: boolean;
  mlpBias: boolean;
  qkNorm: boolean;
  postNorms: boolean;
  learnedPositions: boolean;
  tiedHead: boolean;
  embedScale: number;
  attentionScale: number;
  logitSoftcap: number;
  rope: RopeConfig | null;
  ropeLocal: RopeConfig | null;
  layerRope: Int32Array;
  layerWindow: Int32Array;
}

function yarnAttentionFactor(r: Reader, factor: number): number {
  const mscale = (scale: number, m = 1) => (scale <= 1 ? 1 : 0.1 * m * Math.log(scale) + 1);
  const numerator = r.has('mscale') ? r.number('mscale') : 0;
  const denominator = r.has('mscale_all_dim') ? r.number('mscale_all_dim') : 0;
  if (r.has('attention_factor')) return r.positive('attention_factor');
  return numerator && denominator ? mscale(factor, numerator) / mscale(factor, denominator) : mscale(factor);
}

function readRope(r: Reader | undefined, theta: number, maxPositions: number): RopeConfig {
  const rope: RopeConfig = {
    ...{ type: 'default', theta, factor: 1, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: maxPositions },
    ...{ betaFast: 32, betaSlow: 1, attentionFactor: 1, truncate: true },
  };
  if (!r) return rope;
  const type = r.string('rope_type', r.string('type', 'default'));
  r.only('partial_rotary_factor', 1);
  rope.theta = r.positive('rope_theta', theta);
  if (type !== 'default' && type !== 'linear' && type !== 'llama3' && type !== 'yarn')
    fail(`rope_type ${describe(type)} is not implemented (default, linear, llama3 and yarn are)`);
  rope.type = type;
  if (type === 'default') r.get('factor'); // some exporters write a factor that transformers ignores as well
  if (type === 'linear') rope.factor = r.positive('factor');
  if (type === 'llama3' || type === 'yarn') {
    rope.originalMaxPositions = r.positive('original_max_position_embeddings', type === 'yarn' ? maxPositions : undefined);
    rope.factor = r.positive('factor', type === 'yarn' ? maxPositions / rope.originalMaxPositions : undefined);
  }
  if (type === 'llama3') {
    rope.lowFreqFactor = r.positive('low_freq_factor');
    rope.highFreqFactor = r.positive('high_freq_factor');
    if (rope.highFreqFactor <= rope.lowFreqFactor) fail('rope high_freq_factor must be greater than low_freq_factor');
  }
  if (type === 'yarn') {
    rope.betaFast = r.positive('beta_fast', 32);
    rope.betaSlow = r.positive('beta_slow', 1);
    rope.attentionFactor = yarnAttentionFactor(r, rope.factor);
    rope.truncate = r.boolean('truncate', true);
  }
  r.finish(new Set(['original_max_position_embeddings', 'type']));
  return rope;
}

/** rope_parameters (transformers 5) or rope_scaling + rope_theta (transformers 4). */
function rope(c: Reader, maxPositions: number, defaultTheta: number): RopeConfig {
  const theta = c.positive('rope_theta', defaultTheta);
  const modern = c.object('rope_parameters');
  const old = c.object('rope_scaling');
  return readRope(modern ?? old, theta, maxPositions);
}

const ACTIVATIONS: Record<string, NativeModelConfig['activation']> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_new: 'gelu_tanh',
  gelu: 'gelu',
  relu: 'relu',
};

function activation(name: string): NativeModelConfig['activation'] {
  const known = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  return known ?? fail(`activation ${describe(name)} is not implemented (${Object.keys(ACTIVATIONS).join(', ')} are)`);
}

/** Per layer: how many last positions it attends to, 0 = all. `bySlot` decides where config.json has no layer_types. */
function windows(c: Reader, layers: number, window: number | undefined, bySlot: (layer: number) => boolean): Int32Array {
  const types = c.list('layer_types', layers);
  return Int32Array.from({ length: layers }, (_, i) => {
    const type = types ? types[i] : bySlot(i) ? 'sliding_attention' : 'full_attention';
    if (type === 'full_attention') return 0;
    if (type !== 'sliding_attention')
      fail(`layer_types[${i}] = ${describe(type)} is not implemented (full_attention and sliding_attention are)`);
    return window ?? fail(`layer_types[${i}] is sliding_attention but sliding_window is not set`);
  });
}

function llamaBase(c: Reader, defaultTheta = 10000, ropeByLayerType = false): NativeModelConfig {
  const hiddenSize = c.size('hidden_size');
  const heads = c.size('num_attention_heads');
  const layers = c.size('num_hidden_layers');
  const maxPositions = c.size('max_position_embeddings');
  if (!c.has('head_dim') && hiddenSize % heads !== 0)
    fail(`hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}, and head_dim is not given`);
  const headDim = c.size('head_dim', hiddenSize / heads);
  return {
    naming: 'llama',
    vocabSize: c.size('vocab_size'),
    hiddenSize,
    layers,
    heads,
    kvHeads: c.size('num_key_value_heads', heads),
    headDim,
    intermediateSize: c.size('intermediate_size'),
    maxPositions,
    normEps: c.positive('rms_norm_eps'),
    layerNorm: false,
    normOffset: 0,
    activation: activation(c.string('hidden_act', 'silu')),
    gatedMlp: true,
    qkvBias: false,
    outBias: false,
    mlpBias: false,
    qkNorm: false,
    postNorms: false,
    learnedPositions: false,
    tiedHead: c.boolean('tie_word_embeddings', false),
    embedScale: 1,
    attentionScale: 1 / Math.sqrt(headDim),
    logitSoftcap: 0,
    rope: ropeByLayerType ? null : rope(c, maxPositions, defaultTheta),
    ropeLocal: null,
    layerRope: new Int32Array(layers).fill(1),
    layerWindow: new Int32Array(layers),
  };
}

function slidingWindow(c: Reader, enabled: boolean): number | undefined {
  const window = c.has('sliding_window') ? c.size('sliding_window') : undefined;
  return enabled ? window : undefined;
}

function attentionBias(c: Reader, m: NativeModelConfig): void {
  m.qkvBias = m.outBias = c.boolean('attention_bias', false);
}

function qwen(c: Reader): NativeModelConfig {
  const m = llamaBase(c);
  const window = slidingWindow(c, c.boolean('use_sliding_window', false));
  const first = c.number('max_window_layers', 28);
  m.layerWindow = windows(c, m.layers, window, (i) => window !== undefined && i >= first);
  return m;
}

/** model_type -> how its config.json is read. */
export const FAMILIES: Record<string, (c: Reader) => NativeModelConfig> = {
  llama(c) {
    const m = llamaBase(c);
    attentionBias(c, m);
    m.mlpBias = c.boolean('mlp_bias', false);
    c.only('pretraining_tp', 1);
    return m;
  },
  mistral(c) {
    const m = llamaBase(c);
    const window = slidingWindow(c, true);
    m.layerWindow = windows(c, m.layers, window, () => window !== undefined);
    return m;
  },
  qwen2(c) {
    const m = qwen(c);
    m.qkvBias = true;
    return m;
  },
  qwen3(c) {
    const m = qwen(c);
    m.qkNorm = true;
    attentionBias(c, m);
    return m;
  },
  smollm3(c) {
    const m = llamaBase(c, 2_000_000);
    m.tiedHead = c.boolean('tie_word_embeddings', true);
    attentionBias(c, m);
    m.mlpBias = c.boolean('mlp_bias', false);
    c.only('pretraining_tp', 1);
    const interval = c.size('no_rope_layer_interval', 4);
    const flags = c.list('no_rope_layers', m.layers);
    m.layerRope = Int32Array.from({ length: m.layers }, (_, i) => {
      const flag = flags ? flags[i] : Number((i + 1) % interval !== 0); // 1: this layer does rotate, despite the name
      return flag === 0 || flag === 1 ? flag : fail(`no_rope_layers[${i}] = ${describe(flag)}; expected 0 or 1`);
    });
    const window = slidingWindow(c, c.boolean('use_sliding_window', false));
    m.layerWindow = windows(c, m.layers, window, (i) => window !== undefined && m.layerRope[i] === 0);
    return m;
  },
  gemma3_text: gemma3,
  gpt2,
};

function gemma3(c: Reader): NativeModelConfig {
  const m = llamaBase(c, 1_000_000, true);
  m.tiedHead = c.boolean('tie_word_embeddings', true);
  m.activation = activation(c.string('hidden_activation', 'gelu_pytorch_tanh'));
  m.normOffset = 1;
  m.qkNorm = m.postNorms = true;
  attentionBias(c, m);
  m.embedScale = Math.sqrt(m.hiddenSize);
  m.attentionScale = 1 / Math.sqrt(c.positive('query_pre_attn_scalar', 256));
  m.logitSoftcap = c.has('final_logit_softcapping') ? c.positive('final_logit_softcapping') : 0;
  c.only('attn_logit_softcapping', null);
  c.only('use_bidirectional_attention', false);
  const pattern = c.size('sliding_window_pattern', 6);
  const localTheta = c.positive('rope_local_base_freq', 10_000);
  m.layerWindow = windows(c, m.layers, slidingWindow(c, true), (i) => (i + 1) % pattern !== 0);
  const types = c.object('rope_parameters');
  if (types) {
    m.rope = readRope(types.object('full_attention'), 1_000_000, m.maxPositions);
    m.ropeLocal = readRope(types.object('sliding_attention'), localTheta, m.maxPositions);
    types.finish();
  } else {
    m.rope = rope(c, m.maxPositions, 1_000_000);
    m.ropeLocal = readRope(undefined, localTheta, m.maxPositions);
  }
  m.layerRope = m.layerWindow.map((w) => (w > 0 ? 2 : 1));
  return m;
}

function gpt2(c: Reader): NativeModelConfig {
  const hiddenSize = c.size('n_embd');
  const heads = c.size('n_head');
  const layers = c.size('n_layer');
  if (hiddenSize % heads !== 0) fail(`n_embd ${hiddenSize} is not a multiple of n_head ${heads}`);
  c.only('scale_attn_by_inverse_layer_idx', false);
  c.only('reorder_and_upcast_attn', false);
  c.only('add_cross_attention', false);
  return {
    naming: 'gpt2',
    vocabSize: c.size('vocab_size'),
    hiddenSize,
    layers,
    heads,
    kvHeads: heads,
    headDim: hiddenSize / heads,
    intermediateSize: c.size('n_inner', 4 * hiddenSize),
    maxPositions: c.size('n_positions'),
    normEps: c.positive('layer_norm_epsilon', 1e-5),
    layerNorm: true,
    normOffset: 0,
    activation: activation(c.string('activation_function', 'gelu_new')),
    gatedMlp: false,
    qkvBias: true,
    outBias: true,
    mlpBias: true,
    qkNorm: false,
    postNorms: false,
    learnedPositions: true,
    tiedHead: c.boolean('tie_word_embeddings', true),
    embedScale: 1,
    attentionScale: c.boolean('scale_attn_weights', true) ? 1 / Math.sqrt(hiddenSize / heads) : 1,
    logitSoftcap: 0,
    rope: null,
    ropeLocal: null,
    layerRope: new Int32Array(layers),
    layerWindow: new Int32Array(layers),
  };
}
