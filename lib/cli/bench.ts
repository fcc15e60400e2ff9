// `bench`: the benchmark suite; `bench step --model DIR`: one training step of a given shape; `bench compare A B`: what changed.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { FusedGrpoError, nearest } from '../errors.js';
import type { CaseResult } from '../bench/measure.js';
import type { Peers } from '../bench/peers/peers.js';
import type { StepResult, StepShape } from '../bench/step.js';
import { makeFolder } from '../trainer/files.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { flagName, type FlagTable, type FlagValues } from './options.js';
import { checkModel } from './models.js';
import { Progress, short } from './progress.js';
import { interruptible } from './run-training.js';

const stepFlags: FlagTable = {
  prompts: { type: 'integer', min: 1, default: 8, description: 'step: prompts of a step' },
  numGenerations: { type: 'integer', min: 2, default: 8, description: 'step: completions per prompt' },
  promptLength: { type: 'integer', min: 1, default: 16, description: 'step: tokens of every prompt' },
  maxCompletionLength: { type: 'integer', min: 1, default: 64, description: 'step: tokens of every completion; end tokens are ignored' },
  dtype: { type: 'enum', values: ['auto', 'float32', 'bfloat16'], default: 'auto', description: 'step: type of the weights' },
  beta: { type: 'number', min: 0, default: 0, description: 'step: above 0, a frozen copy of the model is the reference' },
  microBatchTokens: { type: 'integer', min: 0, default: 0, description: 'step: tokens of a micro-batch; 0: as the trainer chooses' },
  steps: { type: 'integer', min: 1, default: 5, description: 'step: measured steps; one more before them is not counted' },
};

const suiteFlags: FlagTable = {
  quick: { type: 'boolean', description: 'Small shapes: under 90 seconds' },
  rounds: { type: 'integer', min: 1, description: 'Measured rounds of every op; default 7 (quick: 3)' },
  output: { type: 'string', valueName: 'DIR', description: 'Folder of results.json, results.md and index.html; default bench-results' },
};

const ownFlags: FlagTable = {
  model: { type: 'string', valueName: 'DIR', description: "Folder of the model for step and generation; default: the demo's" },
  json: { type: 'boolean', description: 'Print the results as JSON' },
  withPeers: {
    type: 'boolean',
    description: 'Measure TRL and Liger-Kernel in the same rounds; pip installs them once if need be (several GB)',
  },
  peersFolder: { type: 'string', valueName: 'DIR', description: "Folder of the peers' Python; default in ~/.cache/fused-grpo" },
  ...suiteFlags,
  ...stepFlags,
};

const words = (values: FlagValues): string[] => (values._ as string[] | undefined) ?? [];

function checkNames(names: readonly string[], cases: readonly string[]): void {
  for (const name of names) {
    if (cases.includes(name)) continue;
    const near = nearest(name, [...cases, 'compare']);
    const hint = near ? `did you mean '${near}'?` : `the cases are ${cases.join(', ')}`;
    throw new FusedGrpoError('ERR_INVALID_ARG', `Unknown benchmark '${name}'; ${hint}`);
  }
}

function stepText(r: StepResult): string {
  const phases = Object.entries(r.phases).map(
    ([name, s]) => `  ${name.padEnd(10)} ${short(s)} s  ${((100 * s) / r.stepSeconds.median).toFixed(0)} %\n`,
  );
  const memory = (r.peakRssBytes / 2 ** 20).toFixed(0);
  const peers = (r.peers?.steps ?? []).map(
    (p) =>
      `${p.name}: ${short(p.stepSeconds.median)} s, ${p.timesOurs.toFixed(2)} x ours (fastest against fastest ${p.fastestTimesOurs.toFixed(2)} x)\n`,
  );
  const notes = (r.peers?.notes ?? []).map((note) => note + '\n');
  return (
    `One step: ${short(r.stepSeconds.median)} s (median of ${r.steps}; least ${short(r.stepSeconds.min)} s), ${r.dtype}, ${(r.parameters / 1e6).toFixed(1)}M parameters\n` +
    `${phases.join('')}${r.generatedTokens} tokens generated, ${r.tokensPerSecond.toFixed(0)} a second; peak memory ${memory} MiB\n${[...peers, ...notes].join('')}`
  );
}

/** The peers that --with-peers asks for; a machine that cannot have them is told why, and the run goes on. */
async function peersFor(values: FlagValues, ctx: CliContext, signal: AbortSignal): Promise<{ peers?: Peers; reason?: string }> {
  if (!values.withPeers) return {};
  const folder = values.peersFolder === undefined ? undefined : resolve(ctx.cwd, values.peersFolder as string);
  const log = (text: string): void => void ctx.stderr.write(text + '\n');
  const api = ctx.api.bench();
  try {
    return { peers: await api.findPeers({ env: ctx.env, folder, log, signal }) };
  } catch (error) {
    if (!(error instanceof api.PeerFailure)) throw error;
    log(`Without peers: ${error.message}`);
    return { reason: error.message };
  }
}

async function runStep(values: FlagValues, ctx: CliContext): Promise<number> {
  const of = (name: string): never => (values[name] ?? stepFlags[name]!.default) as never;
  const { benchStep } = ctx.api.bench();
  const shape: StepShape = {
    ...{ model: (await checkModel('model', values.model, ctx)).folder, prompts: of('prompts'), numGenerations: of('numGenerations') },
    ...{ promptLength: of('promptLength'), maxCompletionLength: of('maxCompletionLength'), dtype: of('dtype') },
    ...{ beta: of('beta'), microBatchTokens: of('microBatchTokens') },
  };
  const rounds: number = of('steps');
  const progress = new Progress(ctx, { label: 'step', total: () => rounds });
  let result: StepResult;
  try {
    result = await interruptible(ctx, progress, async (signal) => {
      const { peers, reason } = await peersFor(values, ctx, signal);
      const measured = await benchStep(shape, { rounds, signal, peers }, (done) => progress.update(done));
      return reason === undefined ? measured : { ...measured, peers: { versions: {}, steps: [], notes: [reason] } };
    });
  } finally {
    progress.end();
  }
  ctx.stdout.write(values.json ? JSON.stringify(result) + '\n' : stepText(result));
  return EXIT.ok;
}

function runCompare(files: readonly string[], ctx: CliContext): number {
  if (files.length !== 2) throw new FusedGrpoError('ERR_INVALID_ARG', 'bench compare takes two results.json: before and after');
  const { compare, readResults } = ctx.api.bench();
  const [before, after] = files.map((file) => readResults(resolve(ctx.cwd, file)));
  const lines = compare(before!, after!);
  ctx.stdout.write(lines.length > 0 ? lines.map((l) => l + '\n').join('') : 'Nothing changed beyond noise.\n');
  return EXIT.ok;
}

async function runSuite(names: readonly string[], values: FlagValues, ctx: CliContext): Promise<number> {
  const api = ctx.api.bench();
  checkNames(names, api.CASES);
  const quick = values.quick === true;
  const model = values.model === undefined ? undefined : (await checkModel('model', values.model, ctx)).folder;
  const output = resolve(ctx.cwd, (values.output as string | undefined) ?? 'bench-results');
  makeFolder(output); // before minutes of work
  const jobs = api.jobs(names, quick, model);
  const rounds = (values.rounds as number | undefined) ?? (quick ? 3 : 7);
  const progress = new Progress(ctx, { label: 'bench', total: () => jobs.length });
  const cases: CaseResult[] = [];
  let peers: Peers | undefined;
  try {
    await interruptible(ctx, progress, async (signal) => {
      const withPeers: readonly string[] = api.PEER_CASES;
      if (jobs.some((job) => withPeers.includes(job.case))) ({ peers } = await peersFor(values, ctx, signal));
      else if (values.withPeers) ctx.stderr.write('Peers are measured in loss, linear and step, none of which was asked for\n');
      for (const [i, job] of jobs.entries()) {
        progress.update(i, [job.case]);
        if (job.skip) progress.log(`Skipped: ${job.case}, ${job.skip}`);
        else cases.push(await job.run({ rounds, signal, peers }));
        if (values.json || job.skip) continue;
        progress.end();
        ctx.stdout.write(api.caseText(cases.at(-1)!) + '\n');
      }
      progress.update(jobs.length);
    });
  } finally {
    progress.end();
    if (cases.length > 0) api.writeResults(output, cases, peers); // an interrupted run keeps what was measured
  }
  if (cases.length === 0)
    throw new FusedGrpoError('ERR_INVALID_ARG', `Nothing was measured: ${jobs.map((job) => `${job.case}, ${job.skip}`).join('; ')}`);
  if (values.json) ctx.stdout.write(readFileSync(join(output, 'results.json'), 'utf8'));
  ctx.stderr.write(`Written: ${['results.json', 'results.md', 'index.html'].map((f) => join(output, f)).join(', ')}\n`);
  return EXIT.ok;
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const names = words(values);
  if (values.peersFolder !== undefined && !values.withPeers)
    throw new FusedGrpoError('ERR_INCOMPATIBLE_OPTIONS', '--peers-folder has a meaning only with --with-peers');
  if (names[0] === 'compare') return runCompare(names.slice(1), ctx);
  const oneStep = names.length === 1 && names[0] === 'step' && values.model !== undefined;
  // Nothing that is given may be ignored: a step takes its own flags, the suite the others.
  const foreign = Object.keys(oneStep ? suiteFlags : stepFlags).find((name) => values[name] !== undefined);
  if (foreign !== undefined)
    throw new FusedGrpoError(
      'ERR_INCOMPATIBLE_OPTIONS',
      oneStep
        ? `${flagName(foreign)} belongs to the suite; 'bench step --model DIR' measures one shape, given by its own flags`
        : `${flagName(foreign)} belongs to 'bench step --model DIR'; the suite's shapes are fixed`,
    );
  if (oneStep) return runStep(values, ctx);
  return runSuite(names, values, ctx);
}

export const benchCommand: Command = {
  name: 'bench',
  summary: 'measure the fused kernels, generation and whole training steps',
  usage: '[case ...] [options]  |  step --model DIR [options]  |  compare BEFORE.json AFTER.json',
  examples: [
    'npx fused-grpo bench --quick',
    'npx fused-grpo bench loss linear',
    'npx fused-grpo bench step --with-peers --model runs/first/model --json',
    'npx fused-grpo bench step --model runs/first/model --prompts 8 --num-generations 8 --steps 5 --json',
  ],
  notes: [
    'Cases: loss (fused against unfused libtorch and a copy of the logits), linear (hidden states x head against its products), step, generation, advantages, optimizer, cuda (the kernels on a card). Without names: all of them.',
    '--with-peers has the same work done by TRL and Liger-Kernel after each of our rounds, in loss, linear and step. FUSED_GRPO_PEERS_PYTHON names a Python that has them; otherwise pip installs pinned versions once. Who cannot run is left out, with the reason.',
    'Ops are timed in turn, round by round, in one run: compare the ratios. `bench step --model DIR --json` prints { stepSeconds: { median, min }, phases, peakRssBytes, generatedTokens (of one step), ... }.',
  ],
  positionals: true,
  flags: () => ownFlags,
  run,
};
