// Text <-> token ids by @huggingface/tokenizers, and the bytes of each token for stop strings.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';

/** The part of @huggingface/tokenizers that is used (its types are an ES module's, which CommonJS cannot import). */
interface HfTokenizer {
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
  decode(ids: number[], options?: { skip_special_tokens?: boolean; clean_up_tokenization_spaces?: boolean }): string;
}
interface HfTokenizers {
  Tokenizer: new (tokenizer: object, config: object) => HfTokenizer;
}

interface TokenizerJson {
  added_tokens?: { id: number; content: string; special: boolean }[];
  model?: { type?: string; vocab?: Record<string, number> | [string, number][]; byte_fallback?: boolean };
  decoder?: unknown;
}

/** tokenizer_config.json as it is. */
export type TokenizerConfig = Record<string, unknown>;

/** Reads a JSON file of a checkpoint folder; undefined when it is absent. */
export function readJson(dir: string, name: string, code: 'ERR_MODEL' | 'ERR_TOKENIZER'): unknown {
  let text: string;
  try {
    text = readFileSync(join(dir, name), 'utf8');
  } catch (cause) {
    if ((cause as { code?: string }).code === 'ENOENT') return undefined;
    throw new FusedGrpoError('ERR_IO', `Could not read ${join(dir, name)}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FusedGrpoError(code, `${join(dir, name)} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
}

/** GPT-2's printable stand-ins for bytes: character -> byte. */
function byteLevelAlphabet(): Map<string, number> {
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; ++byte) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    map.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return map;
}

function decoderTypes(decoder: unknown): Set<string> {
  const types = new Set<string>();
  const visit = (d: unknown) => {
    if (typeof d !== 'object' || d === null) return;
    const { type, decoders } = d as { type?: unknown; decoders?: unknown };
    if (typeof type === 'string') types.add(type);
    if (Array.isArray(decoders)) decoders.forEach(visit);
  };
  visit(decoder);
  return types;
}

/** Text and token ids of a model. */
export class Tokenizer {
  private readonly hf: HfTokenizer;
  private readonly special: ReadonlySet<number>;

  private constructor(
    private readonly json: TokenizerJson,
    /** tokenizer_config.json. */
    readonly config: TokenizerConfig,
  ) {
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const { Tokenizer: Hf } = require('@huggingface/tokenizers') as HfTokenizers;
    this.hf = new Hf(json, config);
    this.special = new Set((json.added_tokens ?? []).filter((t) => t.special).map((t) => t.id));
  }

  /**
   * Reads tokenizer.json and tokenizer_config.json of a checkpoint folder.
   * @returns undefined when there is no tokenizer.json.
   * @throws FusedGrpoError ERR_TOKENIZER when the files cannot be used.
   */
  static load(dir: string): Tokenizer | undefined {
    const json = readJson(dir, 'tokenizer.json', 'ERR_TOKENIZER');
    if (json === undefined) return undefined;
    const config = readJson(dir, 'tokenizer_config.json', 'ERR_TOKENIZER') ?? {};
    try {
      return new Tokenizer(json as TokenizerJson, config as TokenizerConfig);
    } catch (cause) {
      throw new FusedGrpoError('ERR_TOKENIZER', `${join(dir, 'tokenizer.json')} cannot be used: ${(cause as Error).message}`, { cause });
    }
  }

  /** Token ids of `text`; with `special`, what the post-processor of tokenizer.json adds (BOS where the model has one). */
  encode(text: string, special = true): Int32Array {
    return Int32Array.from(this.hf.encode(text, { add_special_tokens: special }).ids);
  }

  /** Text of token ids. Special tokens are skipped unless `keepSpecial`. Bytes that are not valid UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>, keepSpecial = false): string {
    const list = Array.from(ids);
    const kept = keepSpecial ? list : list.filter((id) => !this.special.has(id));
    if (kept.length === 0) return ''; // the library refuses an empty list
    return this.hf.decode(kept, { skip_special_tokens: !keepSpecial, clean_up_tokenization_spaces: false });
  }

  /** A special token that tokenizer_config.json names (as a string, or an object that holds it): its text and, if it is a token, its id. */
  specialToken(key: 'pad_token' | 'eos_token'): { text: string; id: number | undefined } | undefined {
    const value = this.config[key];
    const text = typeof value === 'string' ? value : (value as { content?: unknown } | null | undefined)?.content;
    return typeof text === 'string' ? { text, id: this.entries().find(([piece]) => piece === text)?.[1] } : undefined;
  }

  /** The largest token id plus one. */
  get size(): number {
    return this.entries().reduce((most, [, id]) => Math.max(most, id + 1), 0);
  }

  private entries(): [string, number][] {
    const vocab = this.json.model?.vocab ?? {};
    const plain: [string, number][] = Array.isArray(vocab)
      ? vocab.map((entry, id) => [entry[0], id]) // Unigram: [piece, score], the id is the position
      : Object.entries(vocab);
    return [...plain, ...(this.json.added_tokens ?? []).map((t): [string, number] => [t.content, t.id])];
  }

  /** The bytes that each token stands for in text, special tokens included: what stop strings are matched against. */
  tokenBytes(): { bytes: Uint8Array; offsets: Int32Array } {
    const added = new Set((this.json.added_tokens ?? []).map((t) => t.id));
    const toBytes = this.pieceToBytes();
    const pieces: Uint8Array[] = new Array<Uint8Array>(this.size).fill(new Uint8Array());
    for (const [piece, id] of this.entries()) pieces[id] = added.has(id) ? Buffer.from(piece) : toBytes(piece);
    const offsets = new Int32Array(pieces.length + 1);
    pieces.forEach((p, i) => (offsets[i + 1] = offsets[i]! + p.length));
    return { bytes: Buffer.concat(pieces), offsets };
  }

  private pieceToBytes(): (piece: string) => Uint8Array {
    const types = decoderTypes(this.json.decoder);
    if (types.has('ByteLevel')) {
      const alphabet = byteLevelAlphabet();
      return (piece) =>
        Buffer.from(Array.from(piece, (c) => alphabet.get(c)).flatMap((b, i) => b ?? [...Buffer.from(Array.from(piece)[i]!)]));
    }
    const fallback = /^<0x([0-9A-Fa-f]{2})>$/;
    return (piece) => {
      const byte = fallback.exec(piece);
      return byte ? Uint8Array.of(parseInt(byte[1]!, 16)) : Buffer.from(piece.replaceAll('\u2581', ' '));
    };
  }
}
