import { ownCudaDevice } from '../distributed/placement.js';
import { FusedGrpoError, invalidType, invalidValue } from '../errors.js';
import { classOf as typedClassOf, eachOf, lengthOf, readOnce } from '../ops/inputs.js';
import { engine } from '../native.js';
import { ofThisCopy } from '../place.js';
import type { NativeTensor, NativeTensorOps } from './addon.js';
import { fromNative, settle } from './call.js';

/** What elements of a Tensor can be. */
export type TensorDtype = 'float32' | 'float64' | 'bfloat16' | 'float16' | 'int32' | 'uint8';
/** What holds a tensor's elements in JavaScript; bfloat16 and float16 are bits in a Uint16Array. */
export type TensorData = Float32Array | Float64Array | Uint16Array | Int32Array | Uint8Array;

/** Of Tensor.from. */
export interface TensorOptions {
  /** Default: the array's own; needed for a Uint16Array. A Float32Array may be rounded to another dtype. */
  dtype?: TensorDtype;
  /** 'cpu' (default), 'cuda:0', ... or 'cuda': the first GPU, and in a run of several processes that of LOCAL_RANK. */
  device?: string;
}

const DTYPES: readonly TensorDtype[] = ['float32', 'float64', 'bfloat16', 'float16', 'int32', 'uint8'];
/** The dtypes that an array of this class may hold. */
const HOLDS: Record<string, readonly TensorDtype[]> = {
  Float32Array: DTYPES,
  Float64Array: ['float64'],
  Uint16Array: ['bfloat16', 'float16'],
  Int32Array: ['int32'],
  Uint8Array: ['uint8'],
};
const classOf = (value: unknown) => typedClassOf(value) ?? '';

function dtypeFor(data: unknown, wish: unknown): TensorDtype {
  const held = HOLDS[classOf(data)];
  if (!held) throw invalidType('data', 'a Float32Array, Float64Array, Uint16Array, Int32Array or Uint8Array', data);
  if (wish === undefined && classOf(data) !== 'Uint16Array') return held[0]!;
  const names = held.map((n) => `'${n}'`).join(held.length > 2 ? ', ' : ' or ');
  if (!held.includes(wish as TensorDtype)) throw invalidValue('dtype', `${names} (for a ${classOf(data)})`, wish);
  return wish as TensorDtype;
}

function checkShape(shape: unknown, elements: number): number[] {
  const sizes = eachOf('shape', 'an array of sizes', shape as number[], (n) => {
    if (!Number.isSafeInteger(n) || n < 0) throw invalidValue('shape', 'sizes >= 0', n);
    return n;
  });
  const count = sizes.reduce((product, n) => product * n, 1);
  if (count !== elements) throw invalidValue('shape', `a shape of ${elements} elements (data.length), not ${count},`, shape);
  return sizes;
}

let shared: NativeTensorOps | undefined;
/** The thread that runs ops on tensors, in the order of the calls. @internal */
export const tensorOps = (): NativeTensorOps => (shared ??= new (engine().TensorOps)());

/**
 * Numbers in the engine's memory, on the CPU or a GPU: what the logits ops take in place of a typed array when they should run
 * asynchronously, or where the logits are.
 *
 *     using logits = Tensor.from(array, [rows, vocabSize], { dtype: 'bfloat16', device: 'cuda' });
 *     const { gradLogits } = await grpoLoss({ logits, ... }); // in place: gradLogits === logits
 */
export class Tensor {
  /** Sizes, row-major. */
  readonly shape: readonly number[];
  /** What the elements are. */
  readonly dtype: TensorDtype;
  /** 'cpu', 'cuda:0', ... */
  readonly device: string;
  readonly #native: NativeTensor;
  #disposed = false;

  private constructor(native: NativeTensor, shape: number[], dtype: TensorDtype, device: string) {
    this.#native = native;
    this.shape = Object.freeze(shape);
    this.dtype = dtype;
    this.device = device;
    Object.freeze(this); // shape and dtype are what the native tensor has
  }

  /**
   * Copies a typed array into a new tensor.
   * @throws FusedGrpoError ERR_NO_CUDA when `device` is a GPU and there is none to use (the message says why); ERR_OUT_OF_MEMORY
   */
  static from(data: TensorData, shape: readonly number[], options: TensorOptions = {}): Tensor {
    options = readOnce('Tensor.from', options, ['dtype', 'device'], 'options');
    const dtype = dtypeFor(data, options.dtype);
    const sizes = checkShape(shape, lengthOf(data));
    const device = options.device ?? 'cpu';
    if (typeof device !== 'string' || !/^(cpu|cuda(:\d{1,3})?)$/.test(device))
      throw invalidValue('device', "'cpu', 'cuda' or 'cuda:<number>'", device);
    const named = device === 'cuda' ? ownCudaDevice() : device;
    const asked = named === 'cuda:0' ? device : named; // errors are in the caller's words
    try {
      return new Tensor(new (engine().Tensor)(data, sizes, dtype, asked), sizes, dtype, named);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Not initialised: something will write every element. @internal */
  static uninitialised(shape: number[], like: Tensor): Tensor {
    try {
      return new Tensor(new (engine().Tensor)(null, shape, like.dtype, like.device), shape, like.dtype, like.device);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** float32 zeros. @internal */
  static zeros(shape: number[], device: string): Tensor {
    return Tensor.from(new Float32Array(shape.reduce((product, n) => product * n, 1)), shape, { device });
  }

  /** Whether a value is a real Tensor: neither a Proxy of one nor an object that only inherits from it. @internal */
  static is(value: unknown): value is Tensor {
    return typeof value === 'object' && value !== null && #native in value;
  }

  /** Number of elements. */
  get length(): number {
    return this.shape.reduce((product, n) => product * n, 1);
  }

  /** A copy of the elements, once the ops called before have run. */
  async toArray(): Promise<TensorData> {
    const native = this.native;
    return settle(() => tensorOps().read(native));
  }

  /** Frees the memory, or lets it go when the ops called before have run. Idempotent; any later use throws ERR_DISPOSED. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#native.dispose();
  }

  /** dispose(), for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  get native(): NativeTensor {
    if (this.#disposed) throw new FusedGrpoError('ERR_DISPOSED', 'This Tensor was disposed');
    return this.#native;
  }
}
ofThisCopy(Tensor);
