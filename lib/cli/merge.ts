import { existsSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import type { LoadOptions } from '../engine/options.js';
import { FusedGrpoError } from '../errors.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { Progress } from './progress.js';
import { interruptible } from './run-training.js';
import { checkInput } from './settings.js';

const ownFlags: FlagTable = {
  adapter: { type: 'string', valueName: 'DIR', required: true, description: 'Folder of the adapter, or of the run that made it' },
  output: { type: 'string', valueName: 'DIR', required: true, description: 'Folder for the whole model; it must be new or empty' },
  base: {
    type: 'string',
    valueName: 'DIR',
    description: "Folder of the base model; default: what the adapter's adapter_config.json names",
  },
  dtype: {
    type: 'enum',
    values: ['auto', 'float32', 'bfloat16'],
    default: 'auto',
    description: "Type of the merged weights; auto: the base model's",
  },
  json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
};

/** A model must not be overwritten by accident: merging a second time would add the adapter to merged weights. */
function checkOutput(value: unknown, ctx: CliContext): string {
  const output = resolve(ctx.cwd, String(value));
  if (existsSync(output) && readdirSync(output).length > 0)
    throw new FusedGrpoError('ERR_INVALID_ARG', `--output: ${String(value)} is not empty; give a new folder`);
  return output;
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  requireFlags('merge', ownFlags, values);
  const adapter = checkInput('adapter', 'folder', values.adapter, ctx);
  const base = values.base === undefined ? {} : { base: checkInput('base', 'folder', values.base, ctx) };
  const output = checkOutput(values.output, ctx);
  await interruptible(ctx, new Progress(ctx, { label: 'merge', total: () => 0 }), async (signal) => {
    await ctx.api.merge().mergeAdapter(adapter, output, { ...base, dtype: values.dtype as LoadOptions['dtype'], signal });
  });
  ctx.stderr.write(`Merged: ${output}\n`);
  if (values.json) ctx.stdout.write(JSON.stringify({ output }) + '\n');
  return EXIT.ok;
}

export const mergeCommand: Command = {
  name: 'merge',
  summary: 'add a LoRA adapter to its base model and write the whole model',
  usage: '--adapter DIR --output DIR [options]',
  examples: ['npx fused-grpo merge --adapter runs/lora --output models/merged'],
  notes: ['The output is a folder in Hugging Face layout. Weights are rounded once, to their own type.'],
  flags: () => ownFlags,
  run,
};
