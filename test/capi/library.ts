// libfused_grpo.so from JavaScript: structs are written by the layout in abi.json, functions called by name (ffi.c).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const root = join(__dirname, '..', '..');
export interface Abi {
  version: number;
  unset: string;
  structs: Record<string, { size: number; fields: Record<string, string> }>;
  enums: Record<string, number>;
  functions: Record<string, string>;
}
export const abi = JSON.parse(readFileSync(join(__dirname, 'abi.json'), 'utf8')) as Abi;
export const UNSET = Number(abi.unset);

/** The built library: FUSED_GRPO_CAPI (test:asan), or build-capi/'s. */
export const libraryFile: string =
  process.env.FUSED_GRPO_CAPI ?? execFileSync(process.execPath, [join(root, 'scripts/build-capi.mjs')], { encoding: 'utf8' }).trim();

export const temporary = (): string => mkdtempSync(join(tmpdir(), 'fg capi é-'));

interface Ffi {
  open(file: string): bigint;
  address(view: ArrayBufferView): bigint;
  call(handle: bigint, name: string, ...args: bigint[]): number;
  text(handle: bigint, name: string, argument: number): string;
}

function loadFfi(): Ffi {
  const file = join(temporary(), 'ffi.node');
  const headers = (require('node-api-headers') as { include_dir: string }).include_dir;
  const flags = ['-std=gnu99', '-O1', '-shared', '-fPIC', '-Wall', '-Wextra', '-DNAPI_VERSION=9', `-I${headers}`];
  execFileSync('cc', [...flags, join(__dirname, 'ffi.c'), '-o', file], { stdio: 'pipe' });
  return require(file) as Ffi;
}
export const ffi: Ffi = loadFfi();
const handle = ffi.open(libraryFile);

export const text = (name: string, argument = 0): string => ffi.text(handle, name, argument);

type Value = number | bigint | boolean | ArrayBufferView | Struct | null | undefined;

/** A struct of the header, as its init function makes it; then fields are set. */
export class Struct {
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly kept = new Map<string, unknown>();

  constructor(
    readonly type: string,
    values: Record<string, Value> = {},
    size = abi.structs[type]!.size,
  ) {
    this.bytes = new Uint8Array(new ArrayBuffer(size));
    this.view = new DataView(this.bytes.buffer);
    const status = call(`${type}_init`, this.bytes, size);
    if (status !== 0) throw new Error(`${type}_init: ${status}`);
    this.set(values);
  }
  get address(): bigint {
    return ffi.address(this.bytes);
  }
  set(values: Record<string, Value>): this {
    for (const [name, value] of Object.entries(values)) if (value !== undefined) this.put(name, value);
    return this;
  }
  private place(name: string): [number, string] {
    const [offset, , type] = abi.structs[this.type]!.fields[name]?.split(/ (\d+) /) ?? [];
    if (type === undefined) throw new Error(`${this.type} has no field ${name}`);
    return [Number(offset), type];
  }
  private put(name: string, value: Exclude<Value, undefined>): void {
    const [at, type] = this.place(name);
    if (type.endsWith('*')) {
      this.kept.set(name, value); // lives as long as the struct that points to it
      this.view.setBigInt64(at, pointer(value), true);
    } else if (type === 'double') this.view.setFloat64(at, Number(value), true);
    else if (/64_t|size_t/.test(type)) this.view.setBigInt64(at, BigInt(value as number), true);
    else if (/32_t/.test(type)) this.view.setInt32(at, Number(value), true);
    else throw new Error(`${name}: ${type}`);
  }
  /** This, and every struct that it points to. */
  all(): Struct[] {
    return [this, ...[...this.kept.values()].flatMap((v) => (v instanceof Struct ? v.all() : []))];
  }
  /** The typed arrays that fields point to. */
  arrays(): [string, ArrayBufferView][] {
    return [...this.kept].filter((entry): entry is [string, ArrayBufferView] => ArrayBuffer.isView(entry[1]));
  }
  get(name: string): number {
    const [at, type] = this.place(name);
    if (type === 'double') return this.view.getFloat64(at, true);
    return /64_t|size_t/.test(type) ? Number(this.view.getBigInt64(at, true)) : this.view.getInt32(at, true);
  }
  string(name: string): string {
    const [at] = this.place(name);
    return Buffer.from(this.bytes.buffer).toString('utf8', at, this.bytes.indexOf(0, at));
  }
}

function pointer(value: Value): bigint {
  if (value == null) return 0n;
  if (value instanceof Struct) return value.address;
  return typeof value === 'object' ? ffi.address(value) : BigInt(value);
}

type Caller = (name: string, ...args: Value[]) => number;
/** Calls a function of an open library; the status. */
export const callerOf =
  (library: bigint): Caller =>
  (name, ...args) =>
    ffi.call(library, name, ...args.map(pointer));
export const call = callerOf(handle);

/** The status' name, and the error. */
export interface Outcome {
  status: string;
  message: string;
  argument: string;
  index: number;
  sequence: number;
  token: number;
}
/** Calls a function whose last parameter is an fg_error. */
export const attempt = (name: string, ...args: Value[]): Outcome => attemptBy(call, name, ...args);
export function attemptBy(by: Caller, name: string, ...args: Value[]): Outcome {
  const error = new Struct('fg_error');
  const status = by(name, ...args, error);
  const numbers = { index: error.get('index'), sequence: error.get('sequence'), token: error.get('token') };
  if (error.get('status') !== status) throw new Error(`status ${status}, in the error ${error.get('status')}`);
  return { status: text('fg_status_name', status), message: error.string('message'), argument: error.string('argument'), ...numbers };
}

/** Scratch of as many bytes as the op asks for. */
export function scratchFor(op: string, args: Struct): Uint8Array {
  const bytes = new BigUint64Array(1);
  const { status, message } = attempt(`${op}_scratch`, args, bytes);
  if (status !== 'FG_OK') throw new Error(message);
  return new Uint8Array(Number(bytes[0]));
}
