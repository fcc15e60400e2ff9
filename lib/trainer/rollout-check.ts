// What a rollout function returned, checked: every mistake names prompt and completion.
import { FusedGrpoError, nearest } from '../errors.js';
import type { RolloutCompletion } from './rollout-function.js';
import type { Completion } from './rollout.js';

/** A record, so that a field that is new in the type cannot be forgotten here. */
const FIELDS: Record<keyof RolloutCompletion, true> = {
  tokens: true,
  finishReason: true,
  samplerLogps: true,
  mask: true,
  columns: true,
  policyVersion: true,
};
const KNOWN = Object.keys(FIELDS);

export interface RolloutLimits {
  prompts: number;
  numGenerations: number;
  maxCompletionLength: number;
  vocabSize: number;
  decode: (tokens: Int32Array) => string;
  /** The option that needs log-probs, where one does. */
  needsLogps?: string;
  /** Of completions that do not say. */
  policyVersion?: number;
  /** Why masks are refused, where they are. */
  refusesMask?: string;
}

const ABOVE_ZERO = 1e-3; // what engines in half precision call a log-prob of 0

const fail = (message: string): never => {
  throw new FusedGrpoError('ERR_ROLLOUT', `The rollout function: ${message}`);
};
const failReturned = (message: string): never => {
  throw new FusedGrpoError('ERR_ROLLOUT', `The rollout function returned ${message}`);
};

const said = (value: unknown): string =>
  value === null || typeof value !== 'object'
    ? typeof value === 'string'
      ? JSON.stringify(value)
      : String(value)
    : `an object (${value.constructor?.name ?? 'null prototype'})`;

function listOf(value: unknown): ArrayLike<unknown> | undefined {
  const isList = value !== null && typeof value === 'object' && typeof (value as ArrayLike<unknown>).length === 'number';
  return isList ? (value as ArrayLike<unknown>) : undefined;
}

function perToken(where: string, name: string, value: unknown, tokens: number): ArrayLike<unknown> {
  const list = listOf(value) ?? fail(`${where}: ${name} is ${said(value)}; an array of numbers is needed`);
  if (list.length !== tokens) fail(`${where}: ${list.length} ${name} for ${tokens} tokens`);
  return list;
}

function checkTokens(where: string, value: unknown, { vocabSize, maxCompletionLength }: RolloutLimits): Int32Array {
  const list = listOf(value) ?? fail(`${where}: tokens is ${said(value)}; an array of token ids is needed`);
  if (list.length === 0) fail(`${where} has no tokens; one that ends at once has its end token`);
  if (list.length > maxCompletionLength) fail(`${where} has ${list.length} tokens; maxCompletionLength is ${maxCompletionLength}`);
  return Int32Array.from({ length: list.length }, (_, t) => {
    const id = list[t];
    if (typeof id !== 'number' || !Number.isInteger(id)) return fail(`${where}, token ${t}: ${said(id)} is no token id`);
    if (id < 0 || id >= vocabSize) fail(`${where}, token ${t}: ${id} is not in the vocabulary of ${vocabSize}`);
    return id;
  });
}

function checkMask(where: string, value: unknown, tokens: number, { refusesMask }: RolloutLimits): Uint8Array | undefined {
  if (value === undefined) return undefined;
  if (refusesMask !== undefined) fail(`${where} has a mask: ${refusesMask}`);
  const list = perToken(where, 'mask values', value, tokens);
  const mask = Uint8Array.from({ length: tokens }, (_, t) => {
    const v = typeof list[t] === 'boolean' ? Number(list[t]) : list[t];
    return v === 0 || v === 1 ? v : fail(`${where}, token ${t}: mask is ${said(v)}; 0 or 1 is needed`);
  });
  return mask.includes(0) ? mask : undefined;
}

/** Where the mask is 0 nothing is read: 0 stands for whatever was there. */
function checkLogps(where: string, value: unknown, tokens: number, mask: Uint8Array | undefined): Float32Array {
  const list = perToken(where, 'samplerLogps', value, tokens);
  return Float32Array.from({ length: tokens }, (_, t) => {
    if (mask?.[t] === 0) return 0;
    const logp = list[t];
    if (typeof logp !== 'number' || !Number.isFinite(logp))
      return fail(`${where}, token ${t}: its log-prob is ${said(logp)}; a finite number is needed`);
    if (logp > ABOVE_ZERO) fail(`${where}, token ${t}: its log-prob is ${logp}; the logarithm of a probability is at most 0`);
    return Math.min(0, logp);
  });
}

function checkVersion(where: string, value: unknown): number | undefined {
  if (value === undefined || (typeof value === 'number' && Number.isInteger(value) && value >= 0)) return value;
  return fail(`${where}: policyVersion is ${said(value)}; a number of optimizer steps is needed`);
}

function checkCompletion(where: string, value: unknown, limits: RolloutLimits): Completion {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    fail(`${where} is ${said(value)}; { tokens, finishReason } is needed`);
  const {
    tokens: given,
    finishReason,
    samplerLogps,
    mask: givenMask,
    columns,
    policyVersion,
  } = value as Record<keyof RolloutCompletion, unknown>;
  const tokens = checkTokens(where, given, limits);
  const unknown = Object.keys(value as object).find((name) => !KNOWN.includes(name));
  if (unknown !== undefined) {
    const near = nearest(unknown, KNOWN);
    fail(
      `${where} has '${unknown}', which means nothing here${near ? `; did you mean '${near}'?` : ': what reward functions should see goes into `columns`'}`,
    );
  }
  if (finishReason !== 'stop' && finishReason !== 'length')
    fail(`${where}: finishReason is ${said(finishReason)}; 'stop' or 'length' is needed`);
  if (columns !== undefined && (columns === null || typeof columns !== 'object' || Array.isArray(columns)))
    fail(`${where}: columns is ${said(columns)}; an object is needed`);
  const version = checkVersion(where, policyVersion) ?? limits.policyVersion;
  const mask = checkMask(where, givenMask, tokens.length, limits);
  const logps = samplerLogps === undefined ? undefined : checkLogps(where, samplerLogps, tokens.length, mask);
  return {
    text: limits.decode(tokens),
    tokens,
    finishReason: finishReason as Completion['finishReason'],
    ...(logps && { logps }),
    ...(mask && { mask }),
    ...(version === undefined ? {} : { policyVersion: version }),
    ...(columns === undefined ? {} : { columns: columns as Record<string, unknown> }),
  };
}

/** The completions in the request's order, those of one prompt side by side. */
export function checkRollout(result: unknown, limits: RolloutLimits): Completion[] {
  const { prompts, numGenerations, needsLogps } = limits;
  const groups = listOf(result) ?? failReturned(`${said(result)}; for each prompt an array of completions is needed`);
  if (groups.length !== prompts) failReturned(`completions of ${groups.length} prompts; ${prompts} were asked for`);
  const completions = Array.from({ length: prompts }, (_, p) => {
    const group = listOf(groups[p]) ?? failReturned(`${said(groups[p])} for prompt ${p}; an array of completions is needed`);
    if (group.length !== numGenerations)
      failReturned(`${group.length} completions of prompt ${p}; ${numGenerations} (numGenerations) were asked for`);
    return Array.from({ length: numGenerations }, (_, g) => checkCompletion(`prompt ${p}, completion ${g}`, group[g], limits));
  }).flat();
  const without = completions.findIndex((c) => !c.logps);
  const where = `prompt ${Math.floor(without / numGenerations)}, completion ${without % numGenerations}`;
  if (without >= 0 && needsLogps !== undefined) fail(`${where} has no samplerLogps: ${needsLogps} needs them`);
  if (without >= 0 && completions.some((c) => c.logps)) fail(`${where} has no samplerLogps, and others of the call have: all or none`);
  return completions;
}
