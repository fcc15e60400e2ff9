// `reward train` and `reward score`.
import { resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import type { RewardItem } from '../reward/texts.js';
import type { RewardStep } from '../trainer/reward-trainer.js';
import { openDataset, type Row, type RowCheck } from '../trainer/dataset.js';
import { checkPreferenceRow, isChat } from '../trainer/rows.js';
import { columnFlag, parseColumns } from './columns.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { checkModel, modelFlag } from './models.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { Progress, short } from './progress.js';
import { interruptible, runTraining } from './run-training.js';
import { checkInput, gatherSettings } from './settings.js';
import { configFlags } from './train.js';

const trainFlags: FlagTable = {
  model: {
    ...modelFlag,
    description: 'Folder, or id on the hub, of a language model (it gets a new head), or of a reward model to go on with',
  },
  data: {
    type: 'string',
    valueName: 'FILE',
    required: true,
    description: 'Preferences: .jsonl, .json or .parquet with rows { "prompt"?, "chosen", "rejected", "margin"? }, text or messages',
  },
  column: columnFlag,
  evalData: { type: 'string', valueName: 'FILE', description: 'Held-out preferences, measured every --eval-steps and at the end' },
  output: { type: 'string', valueName: 'DIR', required: true, description: 'Folder for model, checkpoints, metrics.jsonl and report.html' },
  config: {
    type: 'string',
    valueName: 'FILE',
    description: 'Options as JSON or YAML, names as in RewardConfig; the command line overrides it',
  },
  json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
};

function fields({ metrics: m }: RewardStep): string[] {
  return [
    `loss ${short(m.loss)}`,
    `accuracy ${short(m.accuracy)}`,
    `margin ${short(m.margin)}`,
    ...(m.evalAccuracy === undefined ? [] : [`held-out accuracy ${short(m.evalAccuracy)}`]),
    `${short(m.tokensPerSecond)} tok/s`,
  ];
}

async function train(values: FlagValues, ctx: CliContext): Promise<number> {
  const module = ctx.api.reward();
  const { own, config } = gatherSettings(values, trainFlags, configFlags(module.rewardConfigOptions), {}, ctx);
  requireFlags('reward train', trainFlags, own);
  const trainDataset = checkInput('data', 'file', own.data, ctx);
  const evalDataset = own.evalData === undefined ? undefined : checkInput('evalData', 'file', own.evalData, ctx);
  const output = resolve(ctx.cwd, String(own.output));
  const columnMapping = parseColumns(own.column);
  const model = (await checkModel('model', own.model, ctx)).name;
  return runTraining<RewardStep>(
    {
      label: 'reward',
      title: 'Reward model training run',
      output,
      make: (signal) =>
        new module.RewardTrainer({ model, trainDataset, evalDataset, columnMapping, config: { ...config, outputDir: output }, signal }),
      fields,
      trend: ({ metrics }) => metrics.loss,
      summary: (last) => ({ steps: last?.step ?? 0, metrics: last?.metrics ?? null }),
      json: own.json === true,
    },
    ctx,
  );
}

const scoreFlags: FlagTable = {
  model: { ...modelFlag, description: 'Folder of the reward model, or of the run that made it, or its id on the hub' },
  data: {
    type: 'string',
    valueName: 'FILE',
    description:
      '.jsonl, .json or .parquet with rows { "text" }, { "prompt"?, "completion" }, { "messages" }, or pairs { "prompt"?, "chosen", "rejected" }',
  },
  text: { type: 'string', multiple: true, description: 'A text to score; - reads it from standard input' },
  prompt: { type: 'string', description: 'What every --text follows' },
  device: { type: 'enum', values: ['auto', 'cpu', 'cuda'], default: 'auto', description: 'Where the model runs' },
  dtype: { type: 'enum', values: ['auto', 'float32', 'bfloat16'], default: 'auto', description: 'Type of the weights' },
  json: { type: 'boolean', description: 'Print the scores as JSON' },
};

const isPair = (row: Row): boolean => row.chosen !== undefined || row.rejected !== undefined;

const checkScoredRow: RowCheck = (row, where) => {
  if (row !== null && typeof row === 'object' && isPair(row)) return checkPreferenceRow(row, where);
  const { text, messages, prompt, completion } = row ?? {};
  const isText = (value: unknown) => typeof value === 'string' || isChat(value);
  if ((typeof text === 'string' && text !== '') || isChat(messages)) return;
  if (isText(completion) && (prompt === undefined || isText(prompt))) return;
  throw new FusedGrpoError(
    'ERR_DATA',
    `${where}: expected { "text" }, { "prompt", "completion" }, { "messages" } or { "chosen", "rejected" }; the row has ${Object.keys(row ?? {}).join(', ') || 'no columns'}`,
  );
};

/** What a row asks for: one item, or both sides of a pair. */
function itemsOf(row: Row): RewardItem[] {
  const of = (completion: unknown) => ({ prompt: row.prompt, completion }) as RewardItem;
  if (isPair(row)) return [of(row.chosen), of(row.rejected)];
  return [(row.text ?? row.messages ?? of(row.completion)) as RewardItem];
}

async function readRows(values: FlagValues, ctx: CliContext): Promise<Row[]> {
  const texts = (values.text ?? []) as string[];
  if ((values.data === undefined) === (texts.length === 0))
    throw new FusedGrpoError('ERR_INVALID_ARG', "'reward score' needs either --data FILE or --text TEXT");
  if (values.data === undefined) {
    const given = await Promise.all(texts.map(async (text) => (text === '-' ? (await ctx.readStdin()).replace(/\n$/, '') : text)));
    return given.map((completion) => ({ prompt: values.prompt, completion }));
  }
  if (values.prompt !== undefined) throw new FusedGrpoError('ERR_INVALID_ARG', '--prompt goes with --text; rows have their own "prompt"');
  const source = await openDataset(checkInput('data', 'file', values.data, ctx), { seed: null, lazy: false, check: checkScoredRow });
  return source.take(source.length!);
}

const mean = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0) / Math.max(1, numbers.length);

/** Scores of every row (one, or two of a pair), and what they say together. */
function summarise(scores: number[][]): Record<string, number> {
  const margins = scores.filter((s) => s.length === 2).map(([chosen, rejected]) => chosen! - rejected!);
  const accuracy = mean(margins.map((m) => (m > 0 ? 1 : 0)));
  return {
    rows: scores.length,
    mean: mean(scores.flat()),
    ...(margins.length > 0 ? { pairs: margins.length, accuracy, margin: mean(margins) } : {}),
  };
}

const ROWS_AT_ONCE = 256;

async function score(values: FlagValues, ctx: CliContext): Promise<number> {
  requireFlags('reward score', scoreFlags, values);
  const model = (await checkModel('model', values.model, ctx)).name;
  const rows = await readRows(values, ctx);
  const scores: number[][] = [];
  const progress = new Progress(ctx, { label: 'score', total: () => rows.length });
  await interruptible(ctx, progress, async (signal) => {
    const { RewardModel } = ctx.api.reward();
    const reward = await RewardModel.load(model, { device: values.device ?? 'auto', dtype: values.dtype ?? 'auto', signal });
    try {
      for (let at = 0; at < rows.length; at += ROWS_AT_ONCE) {
        const items = rows.slice(at, at + ROWS_AT_ONCE).map(itemsOf);
        const flat = await reward.score(items.flat(), { signal });
        let k = 0;
        for (const { length } of items) scores.push(Array.from({ length }, () => flat[k++]!));
        if (rows.length > ROWS_AT_ONCE) progress.update(scores.length, []);
      }
    } finally {
      progress.end();
      reward.dispose();
    }
  });
  const summary = summarise(scores);
  if (values.json) {
    const all = scores.map((s) => (s.length === 2 ? { chosen: s[0], rejected: s[1] } : s[0]));
    ctx.stdout.write(JSON.stringify({ scores: all, ...summary }) + '\n');
  } else {
    ctx.stdout.write(scores.map((s) => s.join('\t') + '\n').join(''));
    if (summary.pairs !== undefined)
      ctx.stderr.write(`${summary.pairs} pairs: accuracy ${short(summary.accuracy)}, margin ${short(summary.margin)}\n`);
  }
  return EXIT.ok;
}

export const rewardTrainCommand: Command = {
  name: 'reward train',
  summary: 'train a reward model on preferences',
  usage: '--model DIR --data pairs.jsonl --output DIR [--eval-data FILE] [options]',
  examples: ['npx fused-grpo reward train --model ./SmolLM2-135M-Instruct --data pairs.jsonl --output runs/reward --learning-rate 1e-5'],
  notes: [
    'What it makes is a reward of `train`: npx fused-grpo train --reward runs/reward …',
    'Ctrl-C stops after saving (exit code 130); the same command with --resume auto goes on from there.',
  ],
  flags: () => trainFlags,
  moreFlags: (ctx) => ({
    heading: 'Training options (RewardConfig; --config takes the same names in camelCase)',
    table: configFlags(ctx.api.reward().rewardConfigOptions),
  }),
  run: train,
};

export const rewardScoreCommand: Command = {
  name: 'reward score',
  summary: 'score texts or pairs with a reward model',
  usage: '--model DIR (--data FILE | --text "…") [--json]',
  examples: [
    'npx fused-grpo reward score --model runs/reward --prompt "What is 2+2?" --text " 4" --text " 5"',
    'npx fused-grpo reward score --model runs/reward --data held-out.jsonl --json',
  ],
  notes: [
    'One line per row: the score, or chosen and rejected of a pair. Scores have no scale: only differences under one prompt mean something.',
  ],
  flags: () => scoreFlags,
  run: score,
};
