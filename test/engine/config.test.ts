// config.json: both spellings of transformers 4 and 5, and an error that names whatever is not implemented.
import { describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModelConfig } from '../../lib/engine/config.js';
import { Policy } from '../../lib/engine/policy.js';

const llama = {
  model_type: 'llama',
  vocab_size: 100,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
};
const read = (extra: object) => readModelConfig({ ...llama, ...extra });

test('rope_scaling + rope_theta is rope_parameters; torch_dtype is dtype', () => {
  const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };
  const old = read({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...scaling }, torch_dtype: 'bfloat16' });
  const modern = read({ rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...scaling }, dtype: 'bfloat16' });
  expect(modern).toEqual(old);
  expect(old.dtype).toBe('bfloat16');
  expect(read({ rope_scaling: { type: 'linear', factor: 2 } }).native.rope).toMatchObject({ type: 'linear', factor: 2, theta: 10000 });
});

test('end tokens of both files', () => {
  const both = readModelConfig({ ...llama, eos_token_id: [2, 5] }, { eos_token_id: [5, 7, 2] });
  expect(both.eosTokenIds).toEqual([2, 5, 7]);
  expect(read({ eos_token_id: null }).eosTokenIds).toEqual([]);
});

describe('refused, by name', () => {
  test.each([
    [{ model_type: 'mamba' }, /model_type "mamba" is not implemented/],
    [{ model_type: 'toString' }, /model_type "toString" is not implemented/],
    [{ hidden_act: 'xielu' }, /activation "xielu"/],
    [{ hidden_size: '32' }, /a number for hidden_size but found "32"/],
    [{ hidden_size: 33 }, /hidden_size 33 is not a multiple of num_attention_heads 4/],
    [{ num_key_value_heads: 3 }, /num_attention_heads 4 is not a multiple of num_key_value_heads 3/],
    [{ vocab_size: -1 }, /vocab_size/],
    [{ vocab_size: 1e12 }, /vocab_size/],
    [{ rms_norm_eps: 'x' }, /rms_norm_eps/],
    [{ head_dim: 7 }, /head_dim 7/],
    [{ pretraining_tp: 2 }, /pretraining_tp = 2 is not implemented/],
    [{ rope_scaling: { rope_type: 'dynamic', factor: 2 } }, /rope_type "dynamic" is not implemented/],
    [{ rope_scaling: { rope_type: 'longrope', short_factor: [1] } }, /rope_type "longrope"/],
    [{ rope_scaling: { rope_type: 'linear' } }, /rope_scaling.factor/],
    [{ rope_scaling: { rope_type: 'default', partial_rotary_factor: 0.5 } }, /partial_rotary_factor = 0.5 is not implemented/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 4, surprise: 1 } }, /rope_scaling.surprise = 1 is not understood/],
    [{ logit_scale: 0.5 }, /logit_scale = 0.5 is not understood/],
    [{ partial_rotary_factor: 0.25 }, /partial_rotary_factor = 0.25 is not understood/],
    [{ quantization_config: { bits: 4 } }, /quantized weights/],
    [{ eos_token_id: 'x' }, /eos_token_id/],
    [{ model_type: 'mistral', layer_types: ['full_attention', 'chunked_attention'] }, /layer_types\[1\] = "chunked_attention"/],
    [{ model_type: 'smollm3', no_rope_layers: [1, 2] }, /no_rope_layers\[1\] = 2/],
    [{ model_type: 'smollm3', no_rope_layers: [1] }, /a list of 2 entries for no_rope_layers/],
  ] as [object, RegExp][])('%p', (extra, message) => {
    expect(() => read(extra)).toThrow(message);
    expect(() => read(extra)).toThrow(expect.objectContaining({ code: 'ERR_MODEL' }));
  });

  test.each([null, 3, 'x', [], undefined])('config.json = %p', (json) => {
    expect(() => readModelConfig(json)).toThrow(/expected an object/);
  });
});

test('dropout is accepted (it is never applied), and so are bookkeeping keys', () => {
  expect(read({ attention_dropout: 0.1, use_cache: false, transformers_version: '4.40.0', architectures: ['X'] }).native.layers).toBe(2);
});

test('folders that are none', async () => {
  await expect(Policy.load('/nowhere/at/all')).rejects.toThrow(/There is no folder/);
  const dir = mkdtempSync(join(tmpdir(), 'fg-config-'));
  await expect(Policy.load(dir)).rejects.toThrow(/has no config.json/);
  writeFileSync(join(dir, 'config.json'), '{');
  await expect(Policy.load(dir)).rejects.toThrow(/config.json is not valid JSON/);
  writeFileSync(join(dir, 'config.json'), JSON.stringify(llama));
  await expect(Policy.load(dir)).rejects.toThrow(/has neither model.safetensors nor model.safetensors.index.json/);
  await expect(Policy.load(dir, { device: 'cuda' })).rejects.toMatchObject({ code: 'ERR_NO_CUDA' });
  await expect(Policy.load(dir, { dtype: 'float16' as never })).rejects.toThrow(/dtype but received "float16"/);
  rmSync(dir, { recursive: true });
});
