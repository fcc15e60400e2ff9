import { resolve } from 'node:path';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import type { FlagTable, FlagValues } from './options.js';
import { Progress } from './progress.js';
import { interruptible } from './run-training.js';

const ownFlags: FlagTable = {
  output: { type: 'string', valueName: 'DIR', default: 'runs/demo', description: 'Folder for the run and its report.html' },
  maxSteps: { type: 'integer', min: 1, description: "Fewer or more optimizer steps than the demo's own" },
  seed: { type: 'integer', min: 0, description: 'Another seed' },
  json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
};

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const output = resolve(ctx.cwd, String(values.output ?? ownFlags.output!.default));
  const progress = new Progress(ctx, { label: 'demo', total: () => 0 });
  return interruptible(ctx, progress, (signal) =>
    ctx.api.demo().runDemo(
      {
        output,
        maxSteps: values.maxSteps as number | undefined,
        seed: values.seed as number | undefined,
        json: values.json === true,
        signal,
      },
      ctx,
    ),
  );
}

export const demoCommand: Command = {
  name: 'demo',
  summary: 'teach the bundled small model arithmetic by GRPO, in about two minutes',
  usage: '[--output DIR]',
  examples: ['npx fused-grpo demo'],
  flags: () => ownFlags,
  run,
};
