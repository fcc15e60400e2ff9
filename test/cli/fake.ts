// A context without a process: what commands print and import is captured, the trainer is a fake that obeys its contract.
import * as bench from '../../lib/bench/index.js';
import { algorithmConfigs } from '../../lib/trainer/algorithms.js';
import { presets } from '../../lib/presets.js';
import { mkdtempSync, mkdirSync, writeFileSync, appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CliContext, Completion } from '../../lib/cli/context.js';
import { FusedGrpoError } from '../../lib/errors.js';
import type { FlagTable } from '../../lib/cli/options.js';
import type { GRPOStep } from '../../lib/trainer/types.js';
import { madeUpSamples, madeUpSteps } from '../report/made-up.js';

export const sampleOptions: FlagTable = {
  outputDir: { type: 'string', description: 'Folder of the run' },
  learningRate: { type: 'number', default: 1e-6, min: 0, description: 'Peak learning rate' },
  maxSteps: { type: 'integer', default: -1, min: -1, description: 'Optimizer steps' },
  numGenerations: { type: 'integer', default: 8, min: 2, description: 'Completions per prompt' },
  fused: { type: 'boolean', default: true, description: 'Fused loss' },
  lossType: { type: 'enum', values: ['grpo', 'dapo'], default: 'dapo', description: 'Loss' },
  rewardWeights: { type: 'numbers', description: 'One weight per function' },
  beta: { type: 'number', min: 0, default: 0, description: 'KL weight' },
  resume: { type: 'string', description: 'Continue' },
};

export interface FakeTrainerOptions {
  model: string;
  rewardFuncs: ((...args: unknown[]) => unknown)[];
  trainDataset: string;
  columnMapping?: Record<string, string>;
  evalDataset?: string;
  config: Record<string, unknown>;
  signal?: AbortSignal;
}

/** How the fake behaves, and what it was given. */
export interface Script {
  steps: number;
  failAt?: { step: number; error: Error };
  onStep?: (step: number) => void;
  seen?: FakeTrainerOptions;
  disposed?: boolean;
  /** The reward model that was loaded last. */
  rewardModel?: { options: object; disposed: boolean };
}

function fakeTrainer(script: Script) {
  return class {
    totalSteps = script.steps;
    constructor(private readonly options: FakeTrainerOptions) {
      script.seen = options;
      if (options.config.maxSteps === 0) throw new FusedGrpoError('ERR_INVALID_ARG', 'maxSteps may not be 0');
    }
    dispose(): void {
      script.disposed = true;
    }
    async *[Symbol.asyncIterator](): AsyncGenerator<GRPOStep> {
      const output = String(this.options.config.outputDir);
      mkdirSync(output, { recursive: true });
      for (const [i, metrics] of madeUpSteps(script.steps).entries()) {
        this.options.signal?.throwIfAborted();
        if (script.failAt?.step === i + 1) throw script.failAt.error;
        appendFileSync(join(output, 'metrics.jsonl'), JSON.stringify(metrics) + '\n');
        script.onStep?.(i + 1);
        yield { step: i + 1, metrics, samples: madeUpSamples([i + 1])[0]!.samples } as GRPOStep;
      }
    }
  };
}

export interface Fake {
  ctx: CliContext;
  out: () => string;
  err: () => string;
  folder: string;
  interrupt: () => void;
  exits: number[];
  listeners: () => number;
}

const capabilities: ReturnType<CliContext['api']['capabilities']> = {
  version: '0.1.0',
  core: true,
  engine: true,
  cuda: false,
  devices: [{ name: 'cpu' }],
  torchVersion: '2.15.0',
  cudaArchitectures: [],
  simd: 'avx2',
  threads: 2,
  node: 'v20',
  platform: 'linux-x64',
  reasons: {},
};

export function fake(script: Script = { steps: 3 }, more: Partial<CliContext> = {}): Fake {
  const folder = mkdtempSync(join(tmpdir(), 'fused-grpo cli-'));
  mkdirSync(join(folder, 'model'));
  writeFileSync(join(folder, 'prompts.jsonl'), '{"prompt":"1+1="}\n');
  writeFileSync(join(folder, 'reward.mjs'), '');
  let out = '';
  let err = '';
  let clock = 0;
  const listeners = new Set<() => void>();
  const exits: number[] = [];
  const Trainer = fakeTrainer(script);
  const completion: Completion = {
    promptIndex: 0,
    text: 'two',
    tokens: Int32Array.of(1, 2),
    logps: Float32Array.of(-0.5, -1),
    finishReason: 'stop',
  };
  const ctx: CliContext = {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    env: {},
    cwd: folder,
    api: {
      grpo: () => ({
        GRPOTrainer: Trainer as never,
        PPOTrainer: Trainer as never,
        grpoConfigOptions: sampleOptions,
        ppoConfigOptions: sampleOptions,
        algorithmConfigs,
        presets,
      }),
      sft: () => ({ SFTTrainer: Trainer as never, sftConfigOptions: sampleOptions }),
      reward: () => ({
        RewardTrainer: Trainer as never,
        rewardConfigOptions: sampleOptions,
        RewardModel: {
          load: async (_folder, options) => {
            script.rewardModel = { options, disposed: false };
            // As long as a text is.
            const score = async (items: readonly unknown[]) => items.map((item) => JSON.stringify(item).length);
            return { score, dispose: () => void (script.rewardModel!.disposed = true) };
          },
        },
      }),
      policy: () => ({
        Policy: { load: async () => ({ generate: async () => ({ completions: [completion] }), dispose: () => undefined }) },
      }),
      evaluate: () => {
        throw new FusedGrpoError('ERR_MODEL', 'no evaluation here');
      },
      merge: () => ({ mergeAdapter: async () => undefined }),
      demo: () => ({ runDemo: async ({ output }) => (ctx.stdout.write(output), 0) }),
      hub: () => ({
        resolveModel: async (model) => {
          throw new FusedGrpoError('ERR_MODEL', `There is no folder ${model}, and the hub has none`);
        },
      }),
      plan: () => ({
        planRun: async () => {
          throw new FusedGrpoError('ERR_MODEL', 'no plan here');
        },
      }),
      bench: () => bench,
      capabilities: () => capabilities,
    },
    importModule: async () => ({ default: () => [0] }),
    readStdin: async () => 'from stdin\n',
    onInterrupt: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    exitNow: (code) => exits.push(code),
    now: () => (clock += 1000),
    ...more,
  };
  return {
    ctx,
    out: () => out,
    err: () => err,
    folder,
    interrupt: () => listeners.forEach((l) => l()),
    exits,
    listeners: () => listeners.size,
  };
}

/** The arguments of a complete `train`. */
export const trainArgs = (...more: string[]): string[] => [
  'train',
  '--model',
  'model',
  '--data',
  'prompts.jsonl',
  '--reward',
  'reward.mjs',
  '--output',
  'run',
  ...more,
];
