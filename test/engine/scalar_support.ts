// Folders of models with a scalar head for tests, and what their goldens hold (scripts/goldens/make_reward_goldens.py).
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goldenModels } from './support.js';

interface Grads {
  [name: string]: { norm: number; first: number[] };
}
export interface HeadGolden {
  pairs: [number[], number[]][];
  margins: number[];
  centerRewardsCoefficient: number;
  pairNormalizer: number;
  valueBatch: [prompt: number[], completion: number[]][];
  returns: number[];
  mask: number[];
  cliprangeValue: number;
  valueNormalizer: number;
  head: number[];
  families: Record<
    string,
    {
      architecture: string;
      scores: { chosen: number[]; rejected: number[]; loss: number; grads: Grads };
      values: { values: number[]; old: number[]; loss: number; clipFraction: number; grads: Grads };
    }
  >;
}

export const headGolden = JSON.parse(readFileSync(join(__dirname, '../golden/reward/heads.json'), 'utf8')) as HeadGolden;

/** A safetensors file of one float32 tensor. */
function oneTensor(name: string, shape: number[], values: number[]): Buffer {
  const data = Buffer.from(Float32Array.from(values).buffer);
  const header = Buffer.from(JSON.stringify({ [name]: { dtype: 'F32', shape, data_offsets: [0, data.length] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

/** A golden language model with the golden head (or `head`), as transformers' sequence classification names things, in two shards. */
export function classifierFolder(folder: string, family: string, config: object = {}, head = headGolden.head): string {
  mkdirSync(folder, { recursive: true });
  const from = join(goldenModels, family);
  const text = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8')) as object;
  const architectures = [headGolden.families[family]!.architecture];
  const edited = { ...text, architectures, id2label: { 0: 'LABEL_0' }, label2id: { LABEL_0: 0 }, ...config };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(edited));
  copyFileSync(join(from, 'model.safetensors'), join(folder, 'backbone.safetensors'));
  writeFileSync(join(folder, 'score.safetensors'), oneTensor('score.weight', [1, head.length], head));
  const index = { weight_map: { 'score.weight': 'score.safetensors', backbone: 'backbone.safetensors' } };
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
  return folder;
}

/** Gives the tensors of a safetensors file other names. */
export function renameTensors(file: string, rename: (name: string) => string): void {
  const bytes = readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const entries = Object.entries(JSON.parse(bytes.subarray(8, end).toString()) as Record<string, unknown>);
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries.map(([name, value]) => [rename(name), value]))));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(file, Buffer.concat([length, header, bytes.subarray(end)]));
}

/** Float32 tensors of a safetensors file. */
export function readTensors(file: string): Map<string, Float32Array> {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, { dtype: string; data_offsets: [number, number] }>;
  const out = new Map<string, Float32Array>();
  for (const [name, { dtype, data_offsets: at }] of Object.entries(header))
    if (dtype === 'F32')
      out.set(name, new Float32Array(bytes.buffer.slice(bytes.byteOffset + 8 + length + at[0], bytes.byteOffset + 8 + length + at[1])));
  return out;
}
