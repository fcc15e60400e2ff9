// Everything a command touches outside itself, in one object: tests pass fakes, scripts/cli.mjs gets the real thing.
import { pathToFileURL } from 'node:url';
import { capabilities, type Capabilities } from '../capabilities.js';
import type { FlagTable } from './options.js';
import type { RewardItem } from '../reward/texts.js';
import type { RewardStep } from '../trainer/reward-trainer.js';
import type { GRPOTrainerOptions } from '../trainer/grpo-trainer.js';
import type { StepMetrics, GRPOStep } from '../trainer/types.js';

export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** A trainer as the command line sees it. */
export interface TrainerLike<Step> extends AsyncIterable<Step> {
  readonly totalSteps: number;
  /** The step of the newest checkpoint; 0: none. */
  readonly savedStep?: number;
  dispose?(): void;
}

export interface SftStep {
  step: number;
  metrics: { step: number; loss: number; learningRate: number; tokens: number; tokensPerSecond: number };
}

export interface GrpoModule {
  GRPOTrainer: new (options: {
    model: string;
    rewardFuncs: unknown;
    trainDataset: string;
    columnMapping?: Record<string, string>;
    evalDataset?: string;
    valueModel?: string;
    rollout?: GRPOTrainerOptions['rollout'];
    syncWeights?: GRPOTrainerOptions['syncWeights'];
    config: object;
    signal?: AbortSignal;
  }) => TrainerLike<GRPOStep>;
  PPOTrainer: GrpoModule['GRPOTrainer'];
  grpoConfigOptions: FlagTable;
  ppoConfigOptions: FlagTable;
  algorithmConfigs: Record<string, object>;
  /** Ready configurations by name. */
  presets: Record<string, Record<string, unknown>>;
}

export interface SftModule {
  SFTTrainer: new (options: {
    model: string;
    trainDataset: string;
    columnMapping?: Record<string, string>;
    config: object;
    signal?: AbortSignal;
  }) => TrainerLike<SftStep>;
  sftConfigOptions: FlagTable;
}

export interface RewardModule {
  RewardTrainer: new (options: {
    model: string;
    trainDataset: string;
    evalDataset?: string;
    columnMapping?: Record<string, string>;
    config: object;
    signal?: AbortSignal;
  }) => TrainerLike<RewardStep>;
  rewardConfigOptions: FlagTable;
  RewardModel: { load(folder: string, options: object): Promise<RewardModelLike> };
}

export interface RewardModelLike {
  score(items: readonly RewardItem[], options: { signal?: AbortSignal }): Promise<ArrayLike<number>>;
  dispose(): void;
}

export interface Completion {
  promptIndex: number;
  text: string;
  tokens: Int32Array;
  logps: Float32Array;
  finishReason: 'stop' | 'length';
}

export interface PolicyLike {
  generate(prompts: unknown[], options: object): Promise<{ completions: Completion[] }>;
  dispose(): void;
}

export interface PolicyModule {
  Policy: { load(folder: string, options: object): Promise<PolicyLike> };
}

/** What the demo command calls; lib/demo/demo.ts implements it. Returns the exit code. */
export interface DemoModule {
  runDemo(
    options: { output: string; maxSteps?: number; seed?: number; json: boolean; signal: AbortSignal },
    ctx: CliContext,
  ): Promise<number>;
}

/** The benchmark suite; lib/bench/index.ts. */
export type BenchModule = typeof import('../bench/index.js');

/** Models of the hub; lib/hub/resolve.ts. */
export type HubModule = Pick<typeof import('../hub/resolve.js'), 'resolveModel'>;

/** train --dry-run; lib/plan/plan.ts. */
export type PlanModule = Pick<typeof import('../plan/plan.js'), 'planRun'>;

/** eval; lib/trainer/evaluate-model.ts. */
export type EvaluateModule = Pick<typeof import('../trainer/evaluate-model.js'), 'evaluateModel' | 'EVAL_OPTIONS'>;

/** The parts of the library that commands use; loaded when a command needs them, so that --help is quick. */
export interface CliApi {
  grpo(): GrpoModule;
  sft(): SftModule;
  reward(): RewardModule;
  policy(): PolicyModule;
  hub(): HubModule;
  plan(): PlanModule;
  merge(): typeof import('../engine/merge.js');
  evaluate(): EvaluateModule;
  demo(): DemoModule;
  bench(): BenchModule;
  capabilities(): Capabilities;
}

export interface CliContext {
  stdout: Output;
  stderr: Output;
  env: Record<string, string | undefined>;
  /** This process is one of several and another than the first: it writes no report. */
  otherRank?: number;
  /** Why the launcher ends this process, where it is because of another rank. */
  missingRank?: () => string | undefined;
  cwd: string;
  api: CliApi;
  /** Imports a user's or our own ES module by absolute path. */
  importModule(path: string): Promise<Record<string, unknown>>;
  readStdin(): Promise<string>;
  /** Calls `listener` on Ctrl-C or termination; returns what undoes it. */
  onInterrupt(listener: () => void): () => void;
  exitNow(code: number): void;
  /** Milliseconds, monotonic. */
  now(): number;
}

/* eslint-disable @typescript-eslint/no-require-imports -- synchronous and lazy; the interfaces above are the contract */
const api: CliApi = {
  grpo: () => ({
    ...(require('../trainer/grpo-trainer.js') as GrpoModule),
    ...(require('../trainer/ppo-trainer.js') as GrpoModule),
    ...(require('../trainer/config.js') as GrpoModule),
    ...(require('../trainer/ppo-config.js') as GrpoModule),
    ...(require('../trainer/algorithms.js') as GrpoModule),
    ...(require('../presets.js') as GrpoModule),
  }),
  sft: () => ({ ...(require('../trainer/sft-trainer.js') as SftModule), ...(require('../trainer/config.js') as SftModule) }),
  reward: () => ({
    ...(require('../trainer/reward-trainer.js') as RewardModule),
    ...(require('../trainer/reward-config.js') as RewardModule),
    ...(require('../reward/reward-model.js') as RewardModule),
  }),
  policy: () => require('../engine/policy.js') as PolicyModule,
  hub: () => require('../hub/resolve.js') as HubModule,
  plan: () => require('../plan/plan.js') as PlanModule,
  merge: () => require('../engine/merge.js') as typeof import('../engine/merge.js'),
  evaluate: () => require('../trainer/evaluate-model.js') as EvaluateModule,
  demo: () => require('../demo/demo.js') as DemoModule,
  bench: () => require('../bench/index.js') as BenchModule,
  capabilities,
};
/* eslint-enable @typescript-eslint/no-require-imports */

function onInterrupt(listener: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const; // SIGHUP: the terminal has gone
  // So has who reads the output (`| head`): the run is stopped and saved, and nothing more is said.
  const closed = (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (!gone) listener();
    gone = true;
  };
  let gone = false;
  for (const name of signals) process.on(name, listener);
  for (const stream of [process.stdout, process.stderr]) stream.on('error', closed);
  return () => {
    for (const name of signals) process.off(name, listener);
    setImmediate(() => {
      for (const stream of [process.stdout, process.stderr]) if (!gone) stream.off('error', closed);
    });
  };
}

async function readStdin(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) text += String(chunk);
  return text;
}

/** The context of a real process. */
export function processContext(): CliContext {
  return {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    api,
    importModule: (path) => import(pathToFileURL(path).href) as Promise<Record<string, unknown>>,
    readStdin,
    onInterrupt,
    exitNow: (code) => process.exit(code),
    now: () => performance.now(),
  };
}

export type { StepMetrics };
