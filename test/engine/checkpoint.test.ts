// Reading and writing safetensors: what is malformed is refused in words, what is written comes back.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Policy } from '../../lib/engine/policy.js';
import { goldenModels, lists, loadGolden } from './support.js';

let dir: string;
const original = readFileSync(join(goldenModels, 'llama/model.safetensors'));
const headerLength = Number(original.readBigUInt64LE(0));
const headerText = original.subarray(8, 8 + headerLength).toString();
const data = original.subarray(8 + headerLength);
type Header = Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>;
const header = () => JSON.parse(headerText) as Header;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'fg-ckpt-'));
  cpSync(join(goldenModels, 'llama'), dir, { recursive: true });
});
afterAll(() => rmSync(dir, { recursive: true }));

function file(text: string | Buffer, body: Buffer = data, length?: bigint): Buffer {
  const bytes = Buffer.from(text);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(bytes.length));
  return Buffer.concat([prefix, bytes, body]);
}
const edited = (change: (h: Header) => void) => {
  const h = header();
  change(h);
  return file(JSON.stringify(h));
};
async function loadBytes(bytes: Buffer): Promise<void> {
  writeFileSync(join(dir, 'model.safetensors'), bytes);
  (await Policy.load(dir)).dispose();
}
const NORM = 'model.norm.weight';

const malformed: [string, () => Buffer, RegExp][] = [
  ['an empty file', () => Buffer.alloc(0), /too short/],
  ['seven bytes', () => Buffer.alloc(7), /too short/],
  ['a header beyond the file', () => file('{}', Buffer.alloc(0), 1000n), /beyond the end of the file/],
  ['a header of 2^63 bytes', () => file('{}', Buffer.alloc(0), 1n << 63n), /not a safetensors file/],
  ['a header length that wraps', () => file('{}', Buffer.alloc(0), (1n << 64n) - 1n), /not a safetensors file/],
  ['an empty header', () => file('', data), /must begin with '\{'/],
  ['blanks before the header', () => file(' ' + headerText), /must begin/],
  ['text after the header', () => file(headerText.trimEnd() + 'x'), /something follows/],
  ['a cut-off header', () => file(headerText.slice(0, 100)), /not valid/],
  ['a trailing comma', () => file('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},}', Buffer.alloc(0)), /expected/],
  ['a single-quoted key', () => file("{'a':1}"), /expected/],
  ['a comment', () => file('{/**/}'), /expected/],
  ['NaN', () => file('{"a":NaN}'), /not valid/],
  ['invalid UTF-8', () => file(Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d])), /invalid UTF-8/],
  ['an overlong UTF-8 sequence', () => file(Buffer.from([0x7b, 0x22, 0xc0, 0x80, 0x22, 0x7d])), /invalid UTF-8/],
  ['a lone surrogate', () => file('{"\\ud800":1}'), /lone surrogate/],
  ['a control character', () => file('{"a\n":1}'), /control character/],
  ['a bad escape', () => file('{"\\x":1}'), /bad escape/],
  ['deep nesting', () => file('{"a":{"x":' + '['.repeat(100000)), /nested too deeply/],
  [
    'a duplicate tensor',
    () => file(headerText.trimEnd().replace(/\}$/, `,"${NORM}":${JSON.stringify(header()[NORM])}}`)),
    /two tensors are named/,
  ],
  ['a duplicate field', () => file('{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}'), /two entries 'dtype'/],
  ['a missing field', () => file('{"a":{"dtype":"F32","shape":[1]}}'), /has no data_offsets/],
  ['metadata that is not text', () => file('{"__metadata__":{"a":1}}', Buffer.alloc(0)), /expected '"'/],
  ['a negative offset', () => file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}'), /non-negative integer/],
  ['a fractional dimension', () => file('{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}'), /expected an integer/],
  ['an exponent', () => file('{"a":{"dtype":"F32","shape":[1e3],"data_offsets":[0,4]}}'), /expected an integer/],
  ['a leading zero', () => file('{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}'), /must not begin with 0/],
  ['a number beyond 64 bits', () => file('{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}'), /64 bits/],
  ['one offset', () => file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}'), /expected ','/],
  ['three offsets', () => file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}'), /expected '\]'/],
  ['inverted offsets', () => file('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'), /ends before it begins/],
  [
    'a shape whose product wraps',
    () => file('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    /overflows 64 bits/,
  ],
  ['a shape that does not fit its bytes', () => edited((h) => (h[NORM]!.shape = [31])), /its shape and dtype do not give/],
  ['an unknown dtype', () => edited((h) => (h[NORM]!.dtype = 'F31')), /unknown dtype 'F31'/],
  ['a hole', () => file('{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}', Buffer.alloc(8)), /leaves a hole/],
  [
    'an overlap',
    () =>
      file('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}', Buffer.alloc(6)),
    /overlaps/,
  ],
  ['bytes of nobody at the end', () => file(headerText, Buffer.concat([data, Buffer.alloc(3)])), /3 bytes of the file belong to no tensor/],
  ['a cut-off file', () => file(headerText, data.subarray(0, -4)), /beyond the end of the file/],
  ['a missing tensor', () => file('{"__metadata__":{}}', Buffer.alloc(0)), /no tensor 'model.embed_tokens.weight'/],
  ['a renamed tensor', () => file(headerText.replace(NORM, 'model.n0rm.weight')), /no tensor 'model.norm.weight'/],
  [
    'an unexpected tensor',
    () => file(headerText.trimEnd().replace(/\}$/, ',"extra":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')),
    /does not use, first 'extra'/,
  ],
  [
    'a mis-shaped tensor',
    () => edited((h) => (h[NORM]!.shape = [4, 8])),
    /'model.norm.weight' has shape \[4, 8\] but config.json asks for \[32\]/,
  ],
  ['integer weights', () => edited((h) => (h[NORM]!.dtype = 'I32')), /dtype I32; only F32, BF16 and F16/],
];

describe('malformed', () => {
  test.each(malformed)('%s', async (_, make, message) => {
    const error = await loadBytes(make()).then(
      () => undefined,
      (e: unknown) => e as Error & { code: string },
    );
    expect(error?.message).toMatch(message);
    expect(error?.code).toBe('ERR_MODEL');
  });

  test('random damage of the header never crashes', async () => {
    let state = 7;
    const random = (n: number) => {
      state = (state * 48271) % 2147483647;
      return state % n;
    };
    for (let i = 0; i < 300; ++i) {
      const bytes = Buffer.from(original);
      for (let k = 0; k <= random(3); ++k) bytes[random(8 + headerLength)] = random(256);
      await loadBytes(bytes).catch((e: { code?: string }) => expect(e.code).toBe('ERR_MODEL'));
    }
  });

  test('what upstream allows is read: padding, unknown fields, any order of keys, F16', async () => {
    await loadBytes(file(headerText.trimEnd() + ' \n\t '));
    await loadBytes(edited((h) => Object.assign(h[NORM]!, { note: [1, { a: null }, 'x', -2.5e3, true] })));
    const h = header();
    await loadBytes(file(JSON.stringify(Object.fromEntries(Object.entries(h).reverse()))));
  });
});

describe('saving', () => {
  test('into another folder and into its own: the same model, in Hugging Face layout', async () => {
    const from = mkdtempSync(join(tmpdir(), 'fg-save-'));
    cpSync(join(goldenModels, 'gpt2'), from, { recursive: true });
    cpSync(join(__dirname, '../golden/tokenizers/gpt2-like'), from, { recursive: true });
    const policy = await Policy.load(from);
    const want = await policy.native.logits(lists([5, 6, 7])).promise;
    const to = join(from, 'deeper/saved');
    await policy.save(to);
    await policy.save(from);
    for (const folder of [to, from]) {
      const again = await Policy.load(folder);
      expect(await again.native.logits(lists([5, 6, 7])).promise).toEqual(want);
      expect(again.tokenizer).toBeDefined();
      again.dispose();
    }
    expect(readdirSync(to).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(readdirSync(from).filter((f) => f.includes('tmp'))).toEqual([]);
    await expect(policy.save(join(from, 'config.json/below-a-file'))).rejects.toMatchObject({ code: 'ERR_IO' });
    policy.dispose();
    rmSync(from, { recursive: true });
  });

  test('bfloat16 weights are saved as such, and config.json says so', async () => {
    const to = mkdtempSync(join(tmpdir(), 'fg-bf16-'));
    const policy = await loadGolden('qwen3', 'bfloat16');
    await policy.save(to);
    const again = await Policy.load(to);
    expect(again.dtype).toBe('bfloat16');
    expect(await again.native.logits(lists([5, 6])).promise).toEqual(await policy.native.logits(lists([5, 6])).promise);
    policy.dispose();
    again.dispose();
    rmSync(to, { recursive: true });
  });

  test('shards: read by their index, names stay inside the folder, and are replaced when saved over', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fg-shards-'));
    for (const name of ['config.json', 'generation_config.json']) cpSync(join(goldenModels, 'llama', name), join(folder, name));
    const names = Object.keys(header()).filter((n) => n !== '__metadata__');
    const map: Record<string, string> = {};
    [0, 1].forEach((part) => {
      const own = names.filter((_, i) => i % 2 === part);
      let at = 0;
      const entries: Header = {};
      const pieces = own.map((n) => {
        const t = header()[n]!;
        const piece = data.subarray(...(t.data_offsets as [number, number]));
        entries[n] = { ...t, data_offsets: [at, (at += piece.length)] };
        map[n] = `model-0000${part + 1}-of-00002.safetensors`;
        return piece;
      });
      writeFileSync(join(folder, `model-0000${part + 1}-of-00002.safetensors`), file(JSON.stringify(entries), Buffer.concat(pieces)));
    });
    const index = join(folder, 'model.safetensors.index.json');
    writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: map }));
    const policy = await Policy.load(folder);
    const whole = await loadGolden('llama');
    expect(await policy.native.logits(lists([4, 5])).promise).toEqual(await whole.native.logits(lists([4, 5])).promise);
    whole.dispose();
    await policy.save(folder);
    expect(existsSync(index)).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    policy.dispose();
    rmSync(join(folder, 'model.safetensors'));
    for (const bad of ['../model.safetensors', '/etc/passwd', 'a/b.safetensors', 'x\\y.safetensors', 7]) {
      writeFileSync(index, JSON.stringify({ weight_map: { ...map, [NORM]: bad } }));
      await expect(Policy.load(folder)).rejects.toThrow(/must be the name of a .safetensors file in the same folder/);
    }
    rmSync(folder, { recursive: true });
  });
});
