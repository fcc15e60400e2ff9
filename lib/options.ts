// Options as tables: one table gives the defaults, the validation, the command line's flags and the documentation.
import { invalidType, invalidValue, rejectUnknown } from './errors.js';

/** What values an option takes: 'numbers' and 'strings' are arrays. */
export type OptionType = 'number' | 'integer' | 'boolean' | 'string' | 'enum' | 'numbers' | 'strings';

/** One option: what a table, the command line and the documentation know of it. */
export interface OptionSpec {
  /** What values it takes. */
  type: OptionType;
  /** Allowed words of an 'enum'. */
  values?: readonly string[];
  /** Undefined: not set unless the user sets it. */
  default?: unknown;
  /** The least value of a number. */
  min?: number;
  /** The greatest value of a number. */
  max?: number;
  /** The bound itself is not allowed. */
  exclusiveMin?: boolean;
  /** What it does, for --help and the documentation. */
  description: string;
}

/** Options by name. */
export type OptionTable = Readonly<Record<string, OptionSpec>>;

/** What a numeric option accepts, in words. */
export function describeNumber(spec: OptionSpec): string {
  const noun = spec.type === 'integer' ? 'an integer' : 'a number';
  if (spec.min !== undefined && spec.max !== undefined) return `${noun} from ${spec.min} to ${spec.max}`;
  if (spec.min !== undefined) return `${noun} ${spec.exclusiveMin ? 'greater than' : 'of at least'} ${spec.min}`;
  if (spec.max !== undefined) return `${noun} of at most ${spec.max}`;
  return noun;
}

function checkNumber(name: string, spec: OptionSpec, value: unknown): number {
  if (typeof value !== 'number') throw invalidType(name, describeNumber(spec), value);
  const low = spec.min !== undefined && (spec.exclusiveMin ? value <= spec.min : value < spec.min);
  const high = spec.max !== undefined && value > spec.max;
  if (!Number.isFinite(value) || low || high || (spec.type === 'integer' && !Number.isSafeInteger(value)))
    throw invalidValue(name, describeNumber(spec), value);
  return value;
}

/** Checks one value against its spec; throws TypeError/RangeError in the caller's words. */
export function checkOption(name: string, spec: OptionSpec, value: unknown): unknown {
  switch (spec.type) {
    case 'number':
    case 'integer':
      return checkNumber(name, spec, value);
    case 'boolean':
      if (typeof value !== 'boolean') throw invalidType(name, 'true or false', value);
      return value;
    case 'string':
      if (typeof value !== 'string') throw invalidType(name, 'a string', value);
      return value;
    case 'enum':
      if (typeof value !== 'string' || !spec.values!.includes(value))
        throw invalidValue(name, `one of ${spec.values!.map((v) => `'${v}'`).join(', ')}`, value);
      return value;
    case 'numbers':
      if (!Array.isArray(value) || !value.every((v) => typeof v === 'number' && Number.isFinite(v)))
        throw invalidType(name, 'an array of finite numbers', value);
      return value;
    case 'strings':
      if (typeof value === 'string') return [value];
      if (!Array.isArray(value) || !value.every((v) => typeof v === 'string')) throw invalidType(name, 'an array of strings', value);
      return value;
  }
}

/** Defaults filled in, every value checked, unknown names refused. Undefined values count as not given. */
export function resolveOptions(where: string, table: OptionTable, given: object): Record<string, unknown> {
  rejectUnknown(where, given, Object.keys(table));
  const resolved: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) {
    const value = (given as Record<string, unknown>)[name];
    if (value === undefined || value === null) {
      if (spec.default !== undefined) resolved[name] = spec.default;
    } else resolved[name] = checkOption(name, spec, value);
  }
  return resolved;
}
