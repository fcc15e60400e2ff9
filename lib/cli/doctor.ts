// `doctor`: the machine's checks (scripts/checks.mjs, which work before anything is built) plus what really loads.
import { join } from 'node:path';
import type { Capabilities } from '../capabilities.js';
import { packageRoot } from '../native.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import type { FlagTable, FlagValues } from './options.js';

/** One line of the report. 'note': missing, but nothing needs it now. */
export interface Check {
  name: string;
  status: 'ok' | 'note' | 'bad';
  found: string;
  /** The one command (or act) that mends it. */
  remedy?: string;
}

/** An error of lib/native.ts ends with what to do: `Run: <command>`, or a sentence. */
const remedyOf = (reason: string): string => /.*\. (?:Run: )?(.+)$/s.exec(reason)?.[1] ?? 'npx fused-grpo build --force';

/** Loads are checked last: an addon that is built and up to date may still not load on this machine. */
export function loadChecks(caps: Capabilities, before: readonly Check[]): Check[] {
  const builtAndGood = (name: string) => before.some((c) => c.name === name && c.status === 'ok');
  return (['core', 'engine'] as const)
    .filter((part) => builtAndGood(part) && !caps[part])
    .map((part) => {
      const found = caps.reasons[part] ?? 'no';
      return { name: `${part} loads`, status: 'bad', found, remedy: remedyOf(found) };
    });
}

function summary(caps: Capabilities): string[] {
  const devices = caps.devices.map((d) => d.description ?? d.name).join(', ') || 'none';
  return [
    `CPU kernels: ${caps.core ? (caps.simd ?? 'loaded') : 'not there'}`,
    `libtorch in the engine: ${caps.torchVersion ?? 'not there'}${caps.threads ? `, ${caps.threads} threads` : ''}`,
    `devices: ${devices}${caps.cudaArchitectures.length ? `; CUDA kernels for sm_${caps.cudaArchitectures.join(', sm_')}` : ''}`,
    ...(caps.cuda || !caps.engine ? [] : [`no GPU: ${caps.reasons.cuda}`]),
  ];
}

/** The table as text; the last line is the one command to run next. */
export function doctorText(checks: readonly Check[], caps: Capabilities | null, colour: boolean): string {
  const paint = (code: number, text: string) => (colour ? `\x1b[${code}m${text}\x1b[39m` : text);
  const marks = { ok: paint(32, '✔'), note: paint(33, '–'), bad: paint(31, '✘') };
  const width = Math.max(...checks.map((c) => c.name.length));
  const lines = checks.map(
    (c) =>
      `${marks[c.status]} ${c.name.padEnd(width)}  ${c.found}${c.remedy && c.status !== 'ok' ? `\n  ${' '.repeat(width)}  → ${c.remedy}` : ''}`,
  );
  const next = nextStep(checks);
  const end = next ? `Next: ${next}` : 'All is well. Try: npx fused-grpo demo';
  return [...lines, '', ...(caps ? [...summary(caps), ''] : []), end, ''].join('\n');
}

/** Checks stand in the order in which things depend on each other: the first bad one's remedy comes first. */
export const nextStep = (checks: readonly Check[]): string | null => checks.find((c) => c.status === 'bad')?.remedy ?? null;

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const { machineChecks } = (await ctx.importModule(join(packageRoot, 'scripts', 'checks.mjs'))) as { machineChecks: () => Check[] };
  const before = machineChecks();
  const caps = ctx.api.capabilities();
  const checks = [...before, ...loadChecks(caps, before)];
  const ok = checks.every((c) => c.status !== 'bad');
  if (values.json) ctx.stdout.write(JSON.stringify({ ok, next: nextStep(checks), checks, capabilities: caps }, null, 2) + '\n');
  else ctx.stdout.write(doctorText(checks, caps, Boolean(ctx.stdout.isTTY) && !ctx.env.NO_COLOR));
  return ok ? EXIT.ok : EXIT.failed;
}

const ownFlags: FlagTable = { json: { type: 'boolean', description: 'Print the findings as JSON' } };

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'what is installed, what is missing, and the command that mends it',
  usage: '[--json]',
  examples: ['npx fused-grpo doctor'],
  notes: ['Needs no network. Exit code 0: all is well; 1: something is missing.'],
  flags: () => ownFlags,
  run,
};
