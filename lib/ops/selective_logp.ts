import { invalidType } from '../errors.js';
import { core } from '../native.js';
import { boolean, gradientArguments, layout, logitsArguments, optionalTyped, rowsOf, temperature, typed, type Layout } from './check.js';
import { readOnce } from './inputs.js';
import { hostArrays, nativeTensors, needsReading, onTensor, type OnTensor, type Tensor } from './tensors.js';
import { settle } from '../engine/call.js';
import { tensorOps } from '../engine/tensor.js';
import type { GradientOf, LogitsInput, SequenceLayout } from './types.js';

const LOGITS_NAMES = ['logits', 'dtype', 'vocabSize', 'targets', 'rowStride', 'sequenceStride'] as const;
const COMMON_NAMES = [...LOGITS_NAMES, 'temperature', 'mask', 'offsets', 'completionLength'] as const;

/** `offsets` or `completionLength` are needed only with sequenceStride. */
export type OptionalLayout = SequenceLayout | { offsets?: undefined; completionLength?: undefined; sequenceStride?: undefined };

/** What selectiveLogp takes. */
export type SelectiveLogpInput = LogitsInput &
  OptionalLayout & {
    /** Logits are divided by it. Default 1. */
    temperature?: number;
    /** Uint8Array(N): 0 leaves a row out; its logits are not read, its log-prob and entropy are 0. */
    mask?: Uint8Array;
  };

/** Entropies in a result: there, not there, or not known when the code is compiled. */
export type Entropies<Asked extends boolean> = Asked extends true
  ? {
      /** (N), in nats; 0 behind the mask. */
      entropies: Float32Array;
    }
  : {
      /** Not asked for. */
      entropies?: undefined;
    };

/** Of selectiveLogp; entropies with `entropy: true`. */
export type SelectiveLogp<Entropy extends boolean = boolean> = {
  /** (N) log-prob of each target, nats; 0 behind the mask. */
  logps: Float32Array;
  /** (N) log-sum-exp of each row divided by the temperature; 0 behind the mask. */
  lse: Float32Array;
} & Entropies<Entropy>;

function layoutOf(input: SelectiveLogpInput): Layout {
  const rows = rowsOf('targets', input.targets, 'Int32Array');
  if (input.offsets !== undefined || input.completionLength !== undefined) return layout(input, rows, 'targets');
  if (input.sequenceStride !== undefined)
    throw invalidType('offsets', 'an Int32Array of B+1 offsets (or completionLength) beside sequenceStride', undefined);
  return { rows, sequences: 1, offsets: Int32Array.of(0, rows) };
}

/** Native arguments of rows of logits with their mask. */
function rowArguments(input: SelectiveLogpInput) {
  const l = layoutOf(input);
  const mask = optionalTyped<Uint8Array>('mask', input.mask, 'Uint8Array', l.rows);
  const logits = logitsArguments<Float32Array | Uint16Array>(input, l);
  return { l, logits, native: { ...l, ...logits, mask, temperature: temperature(input.temperature) } };
}

/** With logits in a Tensor: on its device, off the event loop. */
export function selectiveLogp<E extends boolean = false>(
  input: OnTensor<SelectiveLogpInput> & {
    /** Also the entropy of each row. Default false. */
    entropy?: E;
  },
): Promise<SelectiveLogp<E>>;
/**
 * Log-probability of each row's target under softmax(logits / temperature), the row's log-sum-exp, and its entropy, reading the
 * logits once and writing no vocabulary-sized array.
 *
 * logp is exact near probability 1 and never positive; -Infinity logits (masked vocabulary) are legal.
 * @returns logps (N), lse (N) and, with `entropy: true`, entropies (N) in nats; 0 behind the mask
 * @throws RangeError naming the position of a target outside the vocabulary (ERR_INVALID_ARG), or the row that holds NaN, +Infinity
 *   or no finite logit (ERR_NON_FINITE)
 */
export function selectiveLogp<E extends boolean = false>(
  input: SelectiveLogpInput & {
    /** Also the entropy of each row. Default false. */
    entropy?: E;
  },
): SelectiveLogp<E>;
export function selectiveLogp(
  input: (SelectiveLogpInput | OnTensor<SelectiveLogpInput>) & { entropy?: boolean },
): SelectiveLogp | Promise<SelectiveLogp> {
  if (onTensor(input)) return selectiveLogpOnTensor(input as SelectiveLogpInput);
  return core().selectiveLogp(selectiveLogpArguments(input as SelectiveLogpInput));
}

function selectiveLogpArguments(input: SelectiveLogpInput & { entropy?: boolean }) {
  input = readOnce('selectiveLogp', input, [...COMMON_NAMES, 'entropy'], 'selectiveLogp input');
  return { ...rowArguments(input).native, entropy: boolean('entropy', input.entropy ?? false) };
}

async function selectiveLogpOnTensor(input: SelectiveLogpInput): Promise<SelectiveLogp> {
  const args = nativeTensors(selectiveLogpArguments(needsReading(input) ? await hostArrays(input) : input));
  return settle(() => tensorOps().selectiveLogp(args));
}

/** What selectiveLogpBackward takes. */
export type SelectiveLogpBackwardInput = SelectiveLogpInput & {
  /** (N) upstream gradient of each log-prob. */
  gradLogps: Float32Array;
  /** (N) upstream gradient of each entropy. */
  gradEntropies?: Float32Array;
  /** What selectiveLogp returned. Accepted for symmetry: the CPU kernel forms them again, more exactly, while the row is in cache. */
  lse?: Float32Array;
  /** See lse. */
  entropies?: Float32Array;
  /** Default true: the gradient overwrites the logits. Otherwise a new compact (N, V) array. */
  inPlace?: boolean;
};

/** With logits in a Tensor: on its device, off the event loop. */
export function selectiveLogpBackward(input: OnTensor<SelectiveLogpBackwardInput>): Promise<{ gradLogits: Tensor }>;
/**
 * Gradient of sum(gradLogps * logps + gradEntropies * entropies) by the raw logits (1 / temperature included).
 * @returns gradLogits in the logits' dtype; rows behind the mask are exactly 0
 * @throws as selectiveLogp; a bad row is found after other rows were written, so that logits given in place are lost then
 */
export function selectiveLogpBackward<Logits extends Float32Array | Uint16Array = Float32Array | Uint16Array>(
  input: SelectiveLogpBackwardInput & { logits: Logits },
): { gradLogits: GradientOf<Logits> };
export function selectiveLogpBackward(
  input: SelectiveLogpBackwardInput | OnTensor<SelectiveLogpBackwardInput>,
): { gradLogits: Float32Array | Uint16Array } | Promise<{ gradLogits: Tensor }> {
  if (onTensor(input)) return backwardOnTensor(input as SelectiveLogpBackwardInput);
  const args = backwardArguments(input as SelectiveLogpBackwardInput);
  core().selectiveLogpBackward(args);
  return { gradLogits: args.gradLogits };
}

async function backwardOnTensor(input: SelectiveLogpBackwardInput): Promise<{ gradLogits: Tensor }> {
  const args = backwardArguments(needsReading(input) ? await hostArrays(input) : input);
  await settle(() => tensorOps().selectiveLogpBackward(nativeTensors(args)));
  return { gradLogits: args.gradLogits as unknown as Tensor };
}

function backwardArguments(input: SelectiveLogpBackwardInput) {
  const names = [...COMMON_NAMES, 'gradLogps', 'gradEntropies', 'lse', 'entropies', 'inPlace'];
  input = readOnce('selectiveLogpBackward', input, names, 'selectiveLogpBackward input');
  const { l, logits, native } = rowArguments(input);
  const gradLogps = typed<Float32Array>('gradLogps', input.gradLogps, 'Float32Array', l.rows);
  const gradEntropies = optionalTyped<Float32Array>('gradEntropies', input.gradEntropies, 'Float32Array', l.rows);
  optionalTyped('lse', input.lse, 'Float32Array', l.rows);
  optionalTyped('entropies', input.entropies, 'Float32Array', l.rows);
  const gradient = gradientArguments(logits, l.rows, boolean('inPlace', input.inPlace ?? true));
  return { ...native, ...gradient, gradLogps, gradEntropies };
}

/** @internal */
export { LOGITS_NAMES };
