// A Llama folder in Hugging Face layout (float32, one file) as GGUF, for llama.cpp. Tokens are named as the tokenizer names them; only ids
// are sent to the server. Users convert by llama.cpp's own convert_hf_to_gguf.py.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ALIGNMENT = 32;
type Kind = 'u32' | 'f32' | 'bool' | 'string' | 'strings' | 'ints';
const TYPES = { u32: 4, f32: 6, bool: 7, string: 8, array: 9, int: 5 } as const;

const u32 = (v: number) => Buffer.from(Uint32Array.of(v).buffer);
const u64 = (v: number) => Buffer.from(BigUint64Array.of(BigInt(v)).buffer);
const text = (v: string) => Buffer.concat([u64(Buffer.byteLength(v)), Buffer.from(v)]);

function value(kind: Kind, v: unknown): Buffer {
  switch (kind) {
    case 'u32':
      return Buffer.concat([u32(TYPES.u32), u32(v as number)]);
    case 'f32':
      return Buffer.concat([u32(TYPES.f32), Buffer.from(Float32Array.of(v as number).buffer)]);
    case 'bool':
      return Buffer.concat([u32(TYPES.bool), Buffer.of(v ? 1 : 0)]);
    case 'string':
      return Buffer.concat([u32(TYPES.string), text(v as string)]);
    case 'strings':
      return Buffer.concat([u32(TYPES.array), u32(TYPES.string), u64((v as string[]).length), ...(v as string[]).map(text)]);
    case 'ints':
      return Buffer.concat([
        u32(TYPES.array),
        u32(TYPES.int),
        u64((v as number[]).length),
        Buffer.from(Int32Array.from(v as number[]).buffer),
      ]);
  }
}

interface Tensor {
  shape: number[];
  data: Float32Array;
}

function readTensors(folder: string): Map<string, Tensor> {
  const file = readFileSync(join(folder, 'model.safetensors'));
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString()) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>; // prettier-ignore
  delete header.__metadata__;
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        if (dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
        const bytes = file.subarray(8 + length + from, 8 + length + to);
        return [name, { shape, data: new Float32Array(new Uint8Array(bytes).buffer) }];
      },
    ),
  );
}

/** Rows of q and k: Hugging Face turns halves of a head, ggml neighbours. */
function permuted({ shape, data }: Tensor, heads: number): Tensor {
  const [rows, columns] = shape as [number, number];
  const half = rows / heads / 2;
  const out = new Float32Array(data.length);
  for (let h = 0; h < heads; ++h)
    for (let part = 0; part < 2; ++part)
      for (let d = 0; d < half; ++d)
        out.set(data.subarray((h * 2 * half + part * half + d) * columns, (h * 2 * half + part * half + d + 1) * columns), (h * 2 * half + d * 2 + part) * columns); // prettier-ignore
  return { shape, data: out };
}

const PLACES: Record<string, string> = {
  'input_layernorm': 'attn_norm',
  'post_attention_layernorm': 'ffn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}; // prettier-ignore

function nameOf(name: string): string {
  if (name === 'model.embed_tokens.weight') return 'token_embd.weight';
  if (name === 'model.norm.weight') return 'output_norm.weight';
  if (name === 'lm_head.weight') return 'output.weight';
  const [, layer, place] = /^model\.layers\.(\d+)\.(.*)\.weight$/.exec(name)!;
  return `blk.${layer}.${PLACES[place!]}.weight`;
}

/** Writes `file`. */
export function writeGguf(folder: string, file: string): void {
  const c = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, never> & Record<string, number>;
  const { model } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')) as { model: { vocab: Record<string, number> } };
  const tokens = Array.from({ length: c.vocab_size! }, (_, id) => `<unused${id}>`);
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  const end = c.eos_token_id!;
  const [heads, kvHeads] = [c.num_attention_heads!, c.num_key_value_heads!];
  const rope = (c.rope_parameters as { rope_theta?: number } | undefined)?.rope_theta ?? c.rope_theta ?? 10000;
  const keys: [string, Kind, unknown][] = [
    ['general.architecture', 'string', 'llama'],
    ['llama.context_length', 'u32', c.max_position_embeddings],
    ['llama.embedding_length', 'u32', c.hidden_size],
    ['llama.block_count', 'u32', c.num_hidden_layers],
    ['llama.feed_forward_length', 'u32', c.intermediate_size],
    ['llama.attention.head_count', 'u32', heads],
    ['llama.attention.head_count_kv', 'u32', kvHeads],
    ['llama.attention.layer_norm_rms_epsilon', 'f32', c.rms_norm_eps],
    ['llama.rope.dimension_count', 'u32', c.head_dim ?? c.hidden_size! / heads],
    ['llama.rope.freq_base', 'f32', rope],
    ['llama.vocab_size', 'u32', c.vocab_size],
    ['tokenizer.ggml.model', 'string', 'gpt2'],
    ['tokenizer.ggml.pre', 'string', 'gpt-2'],
    ['tokenizer.ggml.tokens', 'strings', tokens],
    ['tokenizer.ggml.token_type', 'ints', tokens.map((_, id) => (id === end ? 3 : 1))],
    ['tokenizer.ggml.merges', 'strings', []],
    ['tokenizer.ggml.eos_token_id', 'u32', end],
    ['tokenizer.ggml.add_bos_token', 'bool', false],
  ];
  const tensors = [...readTensors(folder)].map(([name, tensor]): [string, Tensor] => {
    const turned = name.includes('q_proj') ? permuted(tensor, heads) : name.includes('k_proj') ? permuted(tensor, kvHeads) : tensor;
    return [nameOf(name), turned];
  });
  let offset = 0;
  const pad = (length: number) => (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
  const infos = tensors.map(([name, { shape, data }]) => {
    const info = Buffer.concat([text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(0), u64(offset)]);
    offset += data.byteLength + pad(data.byteLength);
    return info;
  });
  const head = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys.length)],
    ...keys.map(([name, kind, v]) => Buffer.concat([text(name), value(kind, v)])),
    ...infos,
  ]);
  const bodies = tensors.flatMap(([, { data }]) => [Buffer.from(data.buffer), Buffer.alloc(pad(data.byteLength))]);
  writeFileSync(file, Buffer.concat([head, Buffer.alloc(pad(head.length)), ...bodies]));
}
