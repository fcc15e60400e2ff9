import { resolve } from 'node:path';
import { columnFlag, parseColumns } from './columns.js';
import type { Command } from './command.js';
import type { CliContext, SftStep } from './context.js';
import { checkModel, modelFlag } from './models.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { short } from './progress.js';
import { runTraining } from './run-training.js';
import { checkInput, gatherSettings } from './settings.js';
import { configFlags } from './train.js';

const ownFlags: FlagTable = {
  model: modelFlag,
  data: {
    type: 'string',
    valueName: 'FILE',
    required: true,
    description: 'Examples: .jsonl, .json or .parquet with rows { prompt, completion }, { text } or { messages }',
  },
  column: columnFlag,
  output: { type: 'string', valueName: 'DIR', required: true, description: 'Folder for model, checkpoints, metrics.jsonl and report.html' },
  config: {
    type: 'string',
    valueName: 'FILE',
    description: 'Options as JSON or YAML, names as in SFTConfig; the command line overrides it',
  },
  json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
};

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const module = ctx.api.sft();
  const { own, config } = gatherSettings(values, ownFlags, configFlags(module.sftConfigOptions), {}, ctx);
  requireFlags('sft', ownFlags, own);
  const trainDataset = checkInput('data', 'file', own.data, ctx);
  const columnMapping = parseColumns(own.column);
  const output = resolve(ctx.cwd, String(own.output));
  const model = (await checkModel('model', own.model, ctx)).name;
  return runTraining<SftStep>(
    {
      label: 'sft',
      title: 'Supervised fine-tuning run',
      output,
      make: (signal) => new module.SFTTrainer({ model, trainDataset, columnMapping, config: { ...config, outputDir: output }, signal }),
      fields: ({ metrics: m }) => [`loss ${short(m.loss)}`, `lr ${short(m.learningRate)}`, `${short(m.tokensPerSecond)} tok/s`],
      trend: ({ metrics }) => metrics.loss,
      summary: (last) => ({ steps: last?.step ?? 0, metrics: last?.metrics ?? null }),
      json: own.json === true,
    },
    ctx,
  );
}

export const sftCommand: Command = {
  name: 'sft',
  summary: 'fine-tune a model on examples (the cold start before GRPO)',
  usage: '--model DIR --data examples.jsonl --output DIR [options]',
  examples: ['npx fused-grpo sft --model ./SmolLM2-135M --data examples.jsonl --output runs/cold-start --learning-rate 2e-5'],
  notes: ['Ctrl-C stops after saving (exit code 130); the same command with --resume auto goes on from there.'],
  flags: () => ownFlags,
  moreFlags: (ctx) => ({
    heading: 'Training options (SFTConfig; --config takes the same names in camelCase)',
    table: configFlags(ctx.api.sft().sftConfigOptions),
  }),
  run,
};
