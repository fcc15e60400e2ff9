// `eval`: how often a model answers a data set rightly.
import type { Evaluation } from '../trainer/evaluate-model.js';
import { columnFlag, parseColumns } from './columns.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { checkModel, modelFlag } from './models.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { duration, Progress, short } from './progress.js';
import { resolveRewards, rewardFlag } from './reward-names.js';
import { interruptible } from './run-training.js';
import { checkInput } from './settings.js';

const ownFlags: FlagTable = {
  model: modelFlag,
  data: {
    type: 'string',
    valueName: 'FILE',
    required: true,
    description: 'Problems: .jsonl, .json or .parquet with rows { "prompt": …, …columns for the reward }',
  },
  column: columnFlag,
  reward: rewardFlag,
  rewardTransform: { type: 'enum', values: ['none', 'sigmoid'], description: "What is made of reward models' scores; default none" },
  numGenerations: { type: 'integer', min: 0, default: 8, description: 'Samples a row, the K of pass@K; 0: the greedy completion alone' },
  limit: { type: 'integer', min: 1, description: 'Rows at most, from the first; default: all' },
  batchSize: { type: 'integer', min: 1, default: 128, description: 'Completions sampled at a time; changes no result' },
  device: { type: 'enum', values: ['auto', 'cpu', 'cuda'], default: 'auto', description: 'Where the model runs' },
  dtype: { type: 'enum', values: ['auto', 'float32', 'bfloat16'], default: 'auto', description: 'Type of the weights' },
  json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
};

/** How completions are drawn and scored: options of GRPOConfig. */
function configFlags(ctx: CliContext): FlagTable {
  const { grpoConfigOptions } = ctx.api.grpo();
  const named = ctx.api
    .evaluate()
    .EVAL_OPTIONS.flatMap((name) => (grpoConfigOptions[name] ? [[name, grpoConfigOptions[name]] as const] : []));
  const table: FlagTable = Object.fromEntries(named);
  const length = table.maxCompletionLength;
  if (!length) return table;
  return {
    ...table,
    maxCompletionLength: {
      ...length,
      default: undefined,
      description: 'Tokens per completion at most; default 256, or what the prompts leave',
    },
  };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The result as a table for people. */
function asText(e: Evaluation, temperature: unknown): string {
  const rows: [string, string, string][] = [
    ['greedy', percent(e.evalPassGreedy), short(e.evalRewardGreedy)],
    ...(e.evalK > 0 ? [['pass@1', percent(e.evalPassAt1), short(e.evalReward)] satisfies [string, string, string]] : []),
    ...(e.evalK > 1 ? [[`pass@${e.evalK}`, percent(e.evalPassAtK), ''] satisfies [string, string, string]] : []),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const sampled = e.evalK > 0 ? `, ${e.evalK} sample${e.evalK === 1 ? '' : 's'} each at temperature ${String(temperature)}` : '';
  return [
    `${e.rows} rows${sampled}, ${duration(e.evalSeconds)}`,
    `  ${''.padEnd(width)}   passed  mean reward`,
    ...rows.map(([name, passed, reward]) => `  ${name.padEnd(width)}  ${passed.padStart(7)}  ${reward.padStart(11)}`.trimEnd()),
    '',
  ].join('\n');
}

/** Without samples their means are left out. */
function asJson(e: Evaluation, model: string, config: FlagValues): string {
  const sampled = e.evalK > 0 ? { reward: e.evalReward, passAt1: e.evalPassAt1, passAtK: e.evalPassAtK } : {};
  const { evalRewardGreedy: rewardGreedy, evalPassGreedy: passGreedy, evalSeconds: seconds } = e;
  const how = { rows: e.rows, numGenerations: e.evalK, ...config, maxCompletionLength: e.maxCompletionLength };
  return JSON.stringify({ model, ...how, rewardGreedy, passGreedy, ...sampled, seconds }) + '\n';
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  requireFlags('eval', ownFlags, values);
  const table = configFlags(ctx);
  const config: FlagValues = {};
  for (const [name, { default: fallback }] of Object.entries(table)) {
    const value = values[name] ?? fallback;
    if (value !== undefined) config[name] = value;
  }
  const own = (name: string) => values[name] ?? ownFlags[name]!.default;
  const dataset = checkInput('data', 'file', values.data, ctx);
  const columnMapping = parseColumns(values.column);
  const model = (await checkModel('model', values.model, ctx)).name;
  const { rewardFuncs, dispose } = await resolveRewards(values.reward, config, values.rewardTransform, ctx);
  let total = 0;
  const progress = new Progress(ctx, { label: 'eval', total: () => total, unit: 'row' });
  try {
    const found = await interruptible(ctx, progress, (signal) =>
      ctx.api.evaluate().evaluateModel({
        ...{ model, dataset, columnMapping, config, rewardFuncs: rewardFuncs as never, signal },
        ...{
          numGenerations: own('numGenerations') as number,
          batchSize: own('batchSize') as number,
          limit: own('limit') as number | undefined,
        },
        ...{ device: own('device') as 'auto', dtype: own('dtype') as 'auto' },
        onRows: (done, all, means) => {
          total = all;
          progress.update(done, [
            `greedy ${percent(means.evalPassGreedy)}`,
            ...(means.evalPassAt1 >= 0 ? [`pass@1 ${percent(means.evalPassAt1)}`] : []),
          ]);
        },
      }),
    );
    progress.end();
    ctx.stdout.write(values.json === true ? asJson(found, String(values.model), config) : asText(found, config.temperature));
    return EXIT.ok;
  } finally {
    progress.end();
    dispose();
  }
}

export const evalCommand: Command = {
  name: 'eval',
  summary: 'pass@1, pass@K and mean reward of a model on a data set',
  usage: '--model DIR --data FILE --reward NAME|FILE|DIR [options]',
  examples: [
    'npx fused-grpo eval --model runs/first --data held-out.jsonl --reward reward.mjs --num-generations 16',
    'npx fused-grpo eval --model org/name --data gsm8k.parquet --column prompt=question --reward accuracy --num-generations 0 --json',
  ],
  notes: [
    'greedy: the likeliest token every time. pass@1 and pass@K: of --num-generations samples, the share that passes, and the share of rows with one that does. A completion passes when its reward is at least --eval-pass-threshold.',
    'The numbers are those of `train --eval-data` with the same seed. Prompts that are messages go through the chat template of the model, as in training.',
  ],
  flags: () => ownFlags,
  moreFlags: (ctx) => ({ heading: 'How completions are drawn and scored (as in GRPOConfig)', table: configFlags(ctx) }),
  run,
};
