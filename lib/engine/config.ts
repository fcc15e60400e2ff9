// config.json -> what the native transformer is told. Every key is either understood, known to be harmless, or an error that names it.
import { Reader, describe, fail, type Json } from './config_reader.js';
import { FAMILIES, type NativeModelConfig } from './families.js';

export type { NativeModelConfig, RopeConfig } from './families.js';

export interface ModelConfig {
  modelType: string;
  native: NativeModelConfig;
  /** dtype (or torch_dtype) of config.json, when it names one. */
  dtype?: string;
  eosTokenIds: number[];
  bosTokenId?: number;
  padTokenId?: number;
  /** Names of transformers' classes, as config.json has them. */
  architectures: readonly string[];
  /** How many labels a classification head has, where config.json says it. */
  labels?: number;
  /** transformers' standard deviation of new weights. */
  initializerRange: number;
}

// Keys that describe training, export or bookkeeping and change nothing in a forward pass without dropout. Dropout probabilities are among
// them: this package never applies dropout, so that a sampled token's log-prob and the trained one agree (GPT-2's own config has 0.1).
const HARMLESS = new Set(
  (
    '_name_or_path architectures transformers_version use_cache initializer_range num_labels pad_token_id bos_token_id eos_token_id unk_token_id ' +
    'sep_token_id cls_token_id mask_token_id decoder_start_token_id torch_dtype dtype attention_dropout hidden_dropout embd_pdrop ' +
    'resid_pdrop attn_pdrop dropout summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj ' +
    'task_specific_params problem_type id2label label2id output_attentions output_hidden_states return_dict return_dict_in_generate ' +
    'gradient_checkpointing chunk_size_feed_forward tokenizer_class prefix finetuning_task keys_to_ignore_at_inference ' +
    'transformers.js_config auto_map n_ctx is_decoder is_encoder_decoder tf_legacy_loss use_bfloat16 torchscript ' +
    'max_window_layers _attn_implementation _attn_implementation_autoset attn_implementation cache_implementation _sliding_window_pattern ' +
    'is_llama_config rope_interleaved unsloth_version unsloth_fixed model_type'
  ).split(' '),
);

/** The model families that can be loaded (config.json's model_type). */
export const modelTypes: readonly string[] = Object.keys(FAMILIES);

function tokenIds(value: unknown, key: string): number[] {
  if (value === undefined || value === null) return [];
  const list = Array.isArray(value) ? value : [value];
  for (const id of list)
    if (!Number.isInteger(id) || (id as number) < 0) fail(`expected token ids for ${key} but found ${describe(value)}`);
  return list as number[];
}

/**
 * Reads a parsed config.json (and generation_config.json, whose eos_token_id adds to it).
 * @throws FusedGrpoError ERR_MODEL naming the key that is missing, wrong, or not implemented.
 */
export function readModelConfig(json: unknown, generation?: unknown): ModelConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) fail(`expected an object but found ${describe(json)}`);
  const c = new Reader(json as Json);
  const modelType = c.string('model_type');
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType] : undefined;
  if (!family) fail(`model_type ${describe(modelType)} is not implemented (${modelTypes.join(', ')} are)`);
  if (c.has('quantization_config')) fail('quantized weights (quantization_config) are not implemented');
  const native = family(c);
  if (native.heads % native.kvHeads !== 0)
    fail(`num_attention_heads ${native.heads} is not a multiple of num_key_value_heads ${native.kvHeads}`);
  if (native.headDim % 2 !== 0 || native.headDim > 1024) fail(`head_dim ${native.headDim} is not implemented (even, at most 1024)`);
  c.finish(HARMLESS);
  const generationEos = typeof generation === 'object' && generation !== null ? (generation as Json)['eos_token_id'] : undefined;
  const eos = new Set([
    ...tokenIds(c.get('eos_token_id'), 'eos_token_id'),
    ...tokenIds(generationEos, 'eos_token_id of generation_config.json'),
  ]);
  const dtype = c.get('dtype') ?? c.get('torch_dtype');
  const bos = tokenIds(c.get('bos_token_id'), 'bos_token_id')[0];
  const pad = c.get('pad_token_id') === -1 ? undefined : tokenIds(c.get('pad_token_id'), 'pad_token_id')[0]; // -1: "none", in old folders
  const architectures = c.get('architectures');
  const names = c.get('id2label');
  const labels = c.get('num_labels') ?? (typeof names === 'object' && names !== null ? Object.keys(names).length : undefined);
  return {
    modelType,
    native,
    ...(typeof dtype === 'string' ? { dtype: dtype.replace(/^torch\./, '') } : {}),
    eosTokenIds: [...eos].filter((id) => id < native.vocabSize),
    ...(bos !== undefined ? { bosTokenId: bos } : {}),
    ...(pad !== undefined ? { padTokenId: pad } : {}),
    architectures: Array.isArray(architectures) ? architectures.filter((name) => typeof name === 'string') : [],
    ...(typeof labels === 'number' ? { labels } : {}),
    initializerRange: c.has('initializer_range') ? c.number('initializer_range') : 0.02,
  };
}
