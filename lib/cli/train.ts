import { resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import type { GRPOTrainerOptions } from '../trainer/grpo-trainer.js';
import { NO_GROUPS } from '../trainer/ppo-config.js';
import type { GRPOStep } from '../trainer/types.js';
import { columnFlag, parseColumns } from './columns.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { checkModel, modelFlag } from './models.js';
import { planText } from './dry-run.js';
import { EXIT } from './errors.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';
import { short } from './progress.js';
import { KEY_VARIABLE, rolloutOf, serverFlags } from './rollout.js';
import { resolveRewards, rewardFlag } from './reward-names.js';
import { runTraining } from './run-training.js';
import { checkInput, gatherSettings } from './settings.js';

function flags(ctx: CliContext): FlagTable {
  return {
    model: modelFlag,
    data: {
      type: 'string',
      valueName: 'FILE',
      required: true,
      description: 'Prompts: .jsonl, .json or .parquet with rows { "prompt": …, …columns for the reward }',
    },
    column: columnFlag,
    reward: rewardFlag,
    rewardTransform: {
      type: 'enum',
      values: ['none', 'sigmoid', 'normalize'],
      description: "What is made of reward models' scores; default none",
    },
    output: {
      type: 'string',
      valueName: 'DIR',
      required: true,
      description: 'Folder for model, checkpoints, metrics.jsonl and report.html',
    },
    rollout: {
      type: 'string',
      valueName: 'FILE',
      description:
        'A module whose default export samples the completions (an inference server, an environment), with syncWeights as an export if it shall get the weights: docs/rollouts.md',
    },
    ...serverFlags,
    evalData: {
      type: 'string',
      valueName: 'FILE',
      description: 'Rows as in --data, answered every --eval-steps and at the end: rewards, pass@1, pass@K',
    },
    algorithm: {
      type: 'enum',
      values: Object.keys(ctx.api.grpo().algorithmConfigs),
      default: 'grpo',
      description: 'grpo, rloo (leave-one-out baseline), reinforce (no groups) or ppo (with a critic); presets and options go over it',
    },
    valueModel: {
      type: 'string',
      valueName: 'DIR',
      description: "ppo: the critic's first weights, a reward model or a language model; default: the policy's",
    },
    preset: { type: 'enum', values: Object.keys(ctx.api.grpo().presets), description: "Start from a paper's configuration" },
    config: {
      type: 'string',
      valueName: 'FILE',
      description: "Options as JSON or YAML, names as in GRPOConfig, or TRL's (a run's config.json works); the command line overrides it",
    },
    dryRun: {
      type: 'boolean',
      description: 'Check data, model, options and rewards, and say what the run would do and need; train nothing',
    },
    json: { type: 'boolean', description: 'Print the result as JSON on stdout' },
  };
}

/** The trainer's options as flags; the output folder has a flag of its own. */
export function configFlags(table: FlagTable): FlagTable {
  return Object.fromEntries(Object.entries(table).filter(([name]) => name !== 'outputDir'));
}

function fields({ metrics: m }: GRPOStep): string[] {
  return [
    `reward ${short(m.reward)} ±${short(m.rewardStd)}`,
    `loss ${short(m.loss)}`,
    ...(m.kl === undefined ? [] : [`KL ${short(m.kl)}`]),
    ...(m.valueLoss === undefined ? [] : [`value loss ${short(m.valueLoss)}`]),
    ...(m.evalReward === undefined ? [] : [`eval ${short(m.evalReward)}`]),
    `length ${short(m.completionLength?.mean)}`,
    `${short(m.tokensPerSecond)} tok/s`,
  ];
}

/** Every trainer's options; which of them an algorithm has not, its trainer says. */
const trainFlags = (ctx: CliContext): FlagTable => configFlags({ ...ctx.api.grpo().ppoConfigOptions, ...ctx.api.grpo().grpoConfigOptions });

/** A preset's options for groups mean nothing to PPO; those that the user gave are its trainer's to refuse. */
function dropGroups(config: FlagValues, preset: Record<string, unknown>): void {
  for (const name of Object.keys(NO_GROUPS)) if (name in preset && config[name] === preset[name]) delete config[name];
}

interface Given {
  own: FlagValues;
  config: FlagValues;
  trainDataset: string;
  columnMapping?: Record<string, string>;
}

async function dryRun({ own, config, trainDataset, columnMapping }: Given, ctx: CliContext): Promise<number> {
  const { name, folder } = await checkModel('model', own.model, ctx, { weights: false });
  await rolloutOf(own, ctx);
  const { rewardFuncs, dispose } = await resolveRewards(own.reward, config, own.rewardTransform, ctx);
  const evalDataset = own.evalData === undefined ? undefined : checkInput('evalData', 'file', own.evalData, ctx);
  const outputDir = own.output === undefined ? undefined : resolve(ctx.cwd, own.output as string);
  const input = {
    folder,
    weights: name === folder,
    dataset: trainDataset,
    columnMapping,
    config: { ...config, ...(outputDir ? { outputDir } : {}) },
    evalDataset,
    outputDir,
  };
  const plan = await ctx.api
    .plan()
    .planRun({ ...input, critic: own.algorithm === 'ppo', rewardFuncs: rewardFuncs as GRPOTrainerOptions['rewardFuncs'] })
    .finally(dispose);
  ctx.stdout.write(own.json === true ? JSON.stringify(plan) + '\n' : planText(plan));
  return plan.fits ? EXIT.ok : EXIT.failed;
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const module = ctx.api.grpo();
  const ownTable = flags(ctx);
  const { own, config: given } = gatherSettings(values, ownTable, trainFlags(ctx), module.presets, ctx);
  const algorithm = (own.algorithm ?? 'grpo') as string;
  const config: FlagValues = { ...module.algorithmConfigs[algorithm], ...given };
  if (algorithm === 'ppo') dropGroups(config, module.presets[own.preset as string] ?? {});
  if (own.valueModel !== undefined && algorithm !== 'ppo')
    throw new FusedGrpoError('ERR_INVALID_ARG', '--value-model belongs to --algorithm ppo');
  const planOnly = own.dryRun === true; // it writes nothing
  requireFlags('train', planOnly ? { ...ownTable, output: { ...ownTable.output!, required: false } } : ownTable, own);
  const trainDataset = checkInput('data', 'file', own.data, ctx);
  if (own.output === '') throw new FusedGrpoError('ERR_INVALID_ARG', '--output needs a folder');
  const columnMapping = parseColumns(own.column);
  if (planOnly) return dryRun({ own, config, trainDataset, columnMapping }, ctx);
  const evalDataset = own.evalData === undefined ? undefined : checkInput('evalData', 'file', own.evalData, ctx);
  const output = resolve(ctx.cwd, String(own.output));
  const model = (await checkModel('model', own.model, ctx)).name;
  const rollout = await rolloutOf(own, ctx);
  const { rewardFuncs, dispose } = await resolveRewards(own.reward, config, own.rewardTransform, ctx);
  const Trainer = algorithm === 'ppo' ? module.PPOTrainer : module.GRPOTrainer;
  const valueModel = own.valueModel === undefined ? undefined : (await checkModel('valueModel', own.valueModel, ctx)).name;
  const inputs = {
    ...rollout,
    ...(evalDataset === undefined ? {} : { evalDataset }),
    ...(valueModel === undefined ? {} : { valueModel }),
  };
  return runTraining<GRPOStep>(
    {
      label: 'train',
      title: `${algorithm.toUpperCase()} training run`,
      output,
      make: (signal) =>
        new Trainer({ ...inputs, model, rewardFuncs, trainDataset, columnMapping, config: { ...config, outputDir: output }, signal }),
      fields,
      trend: (step) => step.metrics.reward,
      summary: (last) => ({ steps: last?.step ?? 0, metrics: last?.metrics ?? null }),
      json: own.json === true,
    },
    ctx,
  ).finally(dispose);
}

export const trainCommand: Command = {
  name: 'train',
  summary: 'train a model by GRPO (or RLOO, REINFORCE, PPO) on prompts and a reward function',
  usage: '--model DIR --data prompts.jsonl --reward reward.mjs --output DIR [options]',
  examples: [
    'npx fused-grpo train --model ./SmolLM2-135M-Instruct --data prompts.jsonl --reward reward.mjs --output runs/first --preset dapo --max-steps 200',
    'npx fused-grpo train --model ./SmolLM2-135M-Instruct --data gsm8k.jsonl --reward accuracy,think-format,./mine.mjs --reward-weights 1,0.5,1 --output runs/second',
  ],
  notes: [
    'A reward module: export default ({ prompts, completions, ...columns }) => completions.map((text) => text.includes("42") ? 1 : 0);',
    'First --dry-run: it checks everything and says how many steps and how much memory a run takes.',
    `--rollout-urls http://gpu1:8000,http://gpu2:8000 lets vLLM or SGLang sample (docs/rollouts.md); a key they want: ${KEY_VARIABLE}`,
    "Built-in rewards read the data set's column solution, else answer; docs/recipes.md says how answers are compared.",
    'Ctrl-C stops after saving (exit code 130); the same command with --resume auto goes on from there. Paths are relative to the current folder.',
  ],
  flags,
  moreFlags: (ctx) => ({
    heading: 'Training options (GRPOConfig and, for --algorithm ppo, PPOConfig; --config takes the same names in camelCase)',
    table: trainFlags(ctx),
  }),
  run,
};
