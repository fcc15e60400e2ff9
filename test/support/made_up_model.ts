// A model folder of any size with made-up weights: for what depends on shapes only.
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from './random.js';

export interface MadeUpShape {
  vocab: number;
  hidden: number;
  inner: number;
  layers: number;
  heads: number;
  kvHeads: number;
}

function tensorsOf(s: MadeUpShape): [string, number[]][] {
  const dim = s.hidden / s.heads;
  const layer = (i: number): [string, number[]][] => {
    const p = `model.layers.${i}.`;
    return [
      [p + 'input_layernorm.weight', [s.hidden]],
      [p + 'post_attention_layernorm.weight', [s.hidden]],
      [p + 'self_attn.q_proj.weight', [s.hidden, s.hidden]],
      [p + 'self_attn.k_proj.weight', [s.kvHeads * dim, s.hidden]],
      [p + 'self_attn.v_proj.weight', [s.kvHeads * dim, s.hidden]],
      [p + 'self_attn.o_proj.weight', [s.hidden, s.hidden]],
      [p + 'mlp.gate_proj.weight', [s.inner, s.hidden]],
      [p + 'mlp.up_proj.weight', [s.inner, s.hidden]],
      [p + 'mlp.down_proj.weight', [s.hidden, s.inner]],
    ];
  };
  return [
    ['model.embed_tokens.weight', [s.vocab, s.hidden]],
    ['model.norm.weight', [s.hidden]],
    ...Array.from({ length: s.layers }, (_, i) => layer(i)).flat(),
  ];
}

/** Writes a Llama of this shape (tied head, float32, context 1024) with the tokenizer of another folder. */
export function writeMadeUpModel(folder: string, shape: MadeUpShape, tokenizerFrom: string): void {
  mkdirSync(folder, { recursive: true });
  const config = {
    ...{
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      vocab_size: shape.vocab,
      hidden_size: shape.hidden,
      intermediate_size: shape.inner,
    },
    ...{
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: shape.kvHeads,
      max_position_embeddings: 1024,
    },
    ...{ rms_norm_eps: 1e-5, hidden_act: 'silu', tie_word_embeddings: true, bos_token_id: 1, eos_token_id: 2, dtype: 'float32' },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) copyFileSync(join(tokenizerFrom, name), join(folder, name));
  const tensors = tensorsOf(shape);
  const count = (dims: number[]) => dims.reduce((a, b) => a * b, 1);
  const header: Record<string, object> = {};
  let at = 0;
  for (const [name, dims] of tensors) header[name] = { dtype: 'F32', shape: dims, data_offsets: [at, (at += 4 * count(dims))] };
  const text = JSON.stringify(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  const fd = openSync(join(folder, 'model.safetensors'), 'w');
  const random = new Random(1);
  writeSync(fd, Buffer.concat([length, Buffer.from(text)]));
  for (const [, dims] of tensors)
    writeSync(
      fd,
      Float32Array.from({ length: count(dims) }, () => (dims.length === 1 ? 1 : (random.next() - 0.5) * 0.06)),
    );
  closeSync(fd);
}
