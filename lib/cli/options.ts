// Command-line flags as tables: one table gives parsing (node:util parseArgs), help text and validation.
import { parseArgs } from 'node:util';
import { FusedGrpoError, invalidType, invalidValue, nearest } from '../errors.js';
import { describeNumber, type OptionSpec, type OptionType } from '../options.js';
import { refusedReason } from '../trainer/trl.js';

/** One flag: an option of the library's tables, so that those serve as flags unchanged, and what only a command line needs. */
export interface FlagSpec extends OptionSpec {
  /** What help calls the value: --model DIR. */
  valueName?: string;
  required?: boolean;
  /** May be given several times; the value is then an array. */
  multiple?: boolean;
}

/** By camelCase name; `--kebab-case` on the command line. */
export type FlagTable = Readonly<Record<string, FlagSpec>>;
export type FlagValues = Record<string, unknown>;

export const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => '-' + c.toLowerCase());
export const camel = (name: string): string => name.replace(/[-_]+(\w)/g, (_, c: string) => c.toUpperCase());
export const flagName = (name: string): string => '--' + kebab(name);

const HELP: FlagTable = { help: { type: 'boolean', description: 'Show this text' } };

function toNumber(name: string, spec: FlagSpec, text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(value)) throw invalidType(flagName(name), describeNumber(spec), text);
  const low = spec.min !== undefined && (spec.exclusiveMin ? value <= spec.min : value < spec.min);
  const high = spec.max !== undefined && value > spec.max;
  if (low || high || (spec.type === 'integer' && !Number.isSafeInteger(value)))
    throw invalidValue(flagName(name), describeNumber(spec), value);
  return value;
}

/** The text of a flag as a value of its type; throws in the words of the command line. */
export function convert(name: string, spec: FlagSpec, text: string): unknown {
  switch (spec.type) {
    case 'number':
    case 'integer':
      return toNumber(name, spec, text);
    case 'numbers':
      return text.split(',').map((part) => toNumber(name, { type: 'number', description: '' }, part));
    case 'strings':
      if (text.split(',').includes('')) throw invalidType(flagName(name), 'texts separated by commas', text);
      return text.split(',');
    case 'boolean':
      if (text !== 'true' && text !== 'false') throw invalidType(flagName(name), 'true or false', text);
      return text === 'true';
    case 'enum':
      if (!spec.values!.includes(text)) throw invalidValue(flagName(name), `one of ${spec.values!.join(', ')}`, text);
      return text;
    case 'string':
      if (text === '') throw invalidType(flagName(name), 'a non-empty text', text);
      return text;
  }
}

/** --learningRate and --learning_rate mean --learning-rate; names that no table knows stay as they are. */
function normalise(argv: readonly string[], table: FlagTable): string[] {
  const end = argv.indexOf('--');
  return argv.map((arg, i) => {
    const [, name, rest] = /^--([^=]+)(=.*)?$/s.exec(arg) ?? [];
    if (name === undefined || (end >= 0 && i > end)) return arg;
    return table[camel(name)] ? flagName(camel(name)) + (rest ?? '') : arg;
  });
}

function unknownFlag(command: string, name: string, table: FlagTable): FusedGrpoError {
  const reason = command === 'train' || command === 'sft' ? refusedReason(camel(name)) : undefined;
  if (reason) return new FusedGrpoError('ERR_UNKNOWN_OPTION', `--${name} is an option of TRL's that is not there. ${reason}`);
  if (command === 'launch')
    return new FusedGrpoError(
      'ERR_UNKNOWN_OPTION',
      `Unknown option --${name} of 'launch'; those of the command that it starts stand behind --`,
    );
  const near = nearest(camel(name), Object.keys(table));
  const hint = near ? `; did you mean ${flagName(near)}?` : `; \`fused-grpo ${command} --help\` lists them`;
  return new FusedGrpoError('ERR_UNKNOWN_OPTION', `Unknown option --${name} of '${command}'${hint}`);
}

type Token = NonNullable<ReturnType<typeof parseArgs>['tokens']>[number];

class Parser {
  readonly values: FlagValues = {};
  private skip = -1;

  constructor(
    private readonly command: string,
    private readonly table: FlagTable,
    private readonly allowPositionals: boolean,
  ) {}

  take(token: Token, next: Token | undefined): void {
    if (token.kind === 'option-terminator' || token.index === this.skip) return;
    if (token.kind === 'positional') return this.positional(token.value);
    if (token.name === 'h') this.values.help = true;
    else this.option(token, next);
  }

  private positional(value: string): void {
    if (!this.allowPositionals)
      throw new FusedGrpoError('ERR_INVALID_ARG', `Unexpected argument '${value}'; options are written --name value`);
    ((this.values._ ??= []) as string[]).push(value);
  }

  private option(token: Extract<Token, { kind: 'option' }>, next: Token | undefined): void {
    const name = camel(token.name);
    const spec = this.table[name];
    if (!spec) return this.negated(token);
    if (spec.type === 'boolean') return this.boolean(name, spec, token, next);
    const { value } = token;
    // A value that looks like a flag is a forgotten value; `--name=--text` says that it is meant.
    if (value === undefined || (!token.inlineValue && /^--\w/.test(value)))
      throw new FusedGrpoError('ERR_INVALID_ARG', `Option ${flagName(name)} needs a value`);
    const converted = convert(name, spec, value);
    if (spec.multiple) ((this.values[name] ??= []) as unknown[]).push(converted);
    else this.values[name] = converted;
  }

  private negated(token: Extract<Token, { kind: 'option' }>): void {
    const positive = camel(token.name.replace(/^no-/, ''));
    if (!token.name.startsWith('no-') || this.table[positive]?.type !== 'boolean') throw unknownFlag(this.command, token.name, this.table);
    this.values[positive] = false;
  }

  /** --flag, --flag=false and --flag false are all understood. */
  private boolean(name: string, spec: FlagSpec, token: Extract<Token, { kind: 'option' }>, next: Token | undefined): void {
    if (typeof token.value === 'string') this.values[name] = convert(name, spec, token.value);
    else if (next?.kind === 'positional' && next.index === token.index + 1 && /^(true|false)$/.test(next.value)) {
      this.values[name] = next.value === 'true';
      this.skip = next.index;
    } else this.values[name] = true;
  }
}

/** Parses a command's arguments. Defaults are not filled in: what is absent was not given. */
export function parseFlags(command: string, table: FlagTable, argv: readonly string[], { positionals = false } = {}): FlagValues {
  const flags = { ...HELP, ...table };
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, spec]) => [
      kebab(name),
      { type: spec.type === 'boolean' ? ('boolean' as const) : ('string' as const), multiple: true },
    ]),
  );
  const { tokens } = parseArgs({ args: normalise(argv, flags), options, strict: false, allowPositionals: true, tokens: true });
  const parser = new Parser(command, flags, positionals);
  tokens.forEach((token, i) => parser.take(token, tokens[i + 1]));
  return parser.values;
}

/** Throws for the first required flag that was not given. */
export function requireFlags(command: string, table: FlagTable, values: FlagValues): void {
  for (const [name, spec] of Object.entries(table))
    if (spec.required && values[name] === undefined)
      throw new FusedGrpoError(
        'ERR_INVALID_ARG',
        `'${command}' needs ${flagName(name)} ${spec.valueName ?? 'VALUE'} (${lowerFirst(spec.description)}); see \`fused-grpo ${command} --help\``,
      );
}

const lowerFirst = (text: string): string => (/^[A-Z][a-z]/.test(text) ? text[0]!.toLowerCase() + text.slice(1) : text);

/** Words wrapped to `width`, continuation lines indented. */
export function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line].join('\n' + indent);
}

function valueHint(spec: FlagSpec): string {
  if (spec.type === 'boolean') return '';
  if (spec.valueName) return ' ' + spec.valueName;
  const hints: Record<Exclude<OptionType, 'boolean'>, string> = {
    number: 'X',
    integer: 'N',
    numbers: 'X,Y,…',
    strings: 'A,B,…',
    string: 'TEXT',
    enum: 'WORD',
  };
  return ' ' + hints[spec.type];
}

function details(spec: FlagSpec): string {
  const notes: string[] = [];
  if (spec.type === 'enum') notes.push(spec.values!.join(' | '));
  if (spec.required) notes.push('required');
  if (spec.multiple) notes.push('may be repeated');
  if (spec.default !== undefined && spec.default !== false)
    notes.push(`default ${typeof spec.default === 'string' ? spec.default : JSON.stringify(spec.default)}`);
  return spec.description + (notes.length ? ` [${notes.join('; ')}]` : '');
}

/** The help lines of a table. */
export function flagHelp(table: FlagTable, columns = 100): string {
  const column = 30;
  const width = Math.max(30, Math.min(columns, 110) - column);
  const indent = ' '.repeat(column);
  return Object.entries(table)
    .map(([name, spec]) => {
      const left = `  ${spec.type === 'boolean' && spec.default === true ? '--[no-]' + kebab(name) : flagName(name)}${valueHint(spec)}`;
      return (left.length < column ? left.padEnd(column) : `${left}\n${indent}`) + wrap(details(spec), width, indent);
    })
    .join('\n');
}
