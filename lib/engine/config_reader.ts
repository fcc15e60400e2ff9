// Reads keys of config.json, and knows which ones nobody asked for.
import { FusedGrpoError } from '../errors.js';

export type Json = Record<string, unknown>;

/** @throws FusedGrpoError ERR_MODEL */
export function fail(message: string): never {
  throw new FusedGrpoError('ERR_MODEL', `config.json: ${message}`);
}

export function describe(value: unknown): string {
  const text = JSON.stringify(value);
  return text === undefined ? String(value) : text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Reads keys of one object and remembers which were asked for, so that what nobody understood can be named. */
export class Reader {
  private readonly seen = new Set<string>();
  constructor(
    private readonly json: Json,
    private readonly path = '',
  ) {}

  get(key: string): unknown {
    this.seen.add(key);
    return this.json[key] === null ? undefined : this.json[key];
  }
  has(key: string): boolean {
    return this.get(key) !== undefined;
  }
  private wrong(key: string, what: string): never {
    fail(`expected ${what} for ${this.path}${key} but found ${describe(this.json[key])}`);
  }
  number(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) this.wrong(key, 'a number');
    return value;
  }
  positive(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (value <= 0) this.wrong(key, 'a number greater than 0');
    return value;
  }
  size(key: string, fallback?: number): number {
    const value = this.number(key, fallback);
    if (!Number.isInteger(value) || value <= 0 || value > 2 ** 31 - 1) this.wrong(key, 'a positive integer');
    return value;
  }
  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'boolean') this.wrong(key, 'true or false');
    return value;
  }
  string(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'string') this.wrong(key, 'a string');
    return value;
  }
  object(key: string): Reader | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) this.wrong(key, 'an object');
    return new Reader(value as Json, `${this.path}${key}.`);
  }
  /** A key that must have this value, because nothing else is implemented. */
  only(key: string, allowed: unknown): void {
    const value = this.get(key);
    if (value !== undefined && value !== allowed)
      fail(`${this.path}${key} = ${describe(value)} is not implemented (only ${describe(allowed)})`);
  }
  list(key: string, length: number): unknown[] | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.length !== length) this.wrong(key, `a list of ${length} entries`);
    return value as unknown[];
  }
  /** Fails for the first key that nobody asked for and that is not known to be harmless. */
  finish(harmless: ReadonlySet<string> = new Set()): void {
    for (const key of Object.keys(this.json)) {
      if (this.seen.has(key) || harmless.has(key) || this.json[key] === null) continue;
      fail(`${this.path}${key} = ${describe(this.json[key])} is not understood; refusing to guess what it changes`);
    }
  }
}
