// `launch`: the processes of a data parallel run on this machine, as torchrun starts them, without Python.
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { packageRoot } from '../native.js';
import type { Command } from './command.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { requireFlags, type FlagTable, type FlagValues } from './options.js';

const flags: FlagTable = {
  nproc: { type: 'integer', valueName: 'N', min: 1, max: 256, required: true, description: 'Processes (ranks) to start' },
  port: { type: 'integer', min: 1, max: 65535, description: 'Where they meet on this machine (MASTER_PORT); default: a free one' },
  maxRestarts: {
    type: 'integer',
    default: 0,
    min: 0,
    description: 'After a failure all are started again, at most so often; give the command --resume auto, so that they go on',
  },
  grace: { type: 'number', default: 30, min: 0, description: 'Seconds that the others get to save and end when one has failed' },
};

/** A port that nobody listens at. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

interface Ended {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
}

const describe = ({ rank, code, signal }: Ended) => `Rank ${rank} ${signal ? `was ended by ${signal}` : `ended with exit code ${code}`}`;

const NOTICE_MS = 3000;

/** One attempt: all processes from their start to their end. */
class Attempt {
  private readonly children: ChildProcess[];
  private readonly ends: Promise<Ended>[];
  private killer?: NodeJS.Timeout;
  private teller?: NodeJS.Timeout;
  private told = false;

  constructor(
    command: readonly string[],
    nproc: number,
    private readonly grace: number,
    env: CliContext['env'],
  ) {
    const threads = String(Math.max(1, Math.floor(availableParallelism() / nproc)));
    this.children = Array.from({ length: nproc }, (_, rank) =>
      spawn(process.execPath, [join(packageRoot, 'scripts/cli.mjs'), ...command], {
        env: {
          ...{ OMP_NUM_THREADS: threads, FUSED_GRPO_THREADS: threads }, // as many threads as cores in all, unless the user says otherwise
          ...env,
          ...{ RANK: String(rank), LOCAL_RANK: String(rank), WORLD_SIZE: String(nproc), LOCAL_WORLD_SIZE: String(nproc) },
          FUSED_GRPO_LAUNCHED: '1',
        },
        stdio: ['pipe', 'inherit', 'inherit'],
        detached: true, // a terminal's Ctrl-C reaches the launcher alone, which passes it on once
      }),
    );
    this.ends = this.children.map(
      (child, rank) =>
        new Promise((resolve) => {
          child.once('error', () => resolve({ rank, code: EXIT.failed, signal: null }));
          child.once('exit', (code, signal) => resolve({ rank, code, signal }));
        }),
    );
  }

  send(signal: NodeJS.Signals): void {
    this.told = true;
    for (const child of this.children) if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  }

  /** The first that failed, or undefined when all ended well. */
  async wait(): Promise<Ended | undefined> {
    let first: Ended | undefined;
    await Promise.all(
      this.ends.map(async (end) => {
        const ended = await end;
        if (ended.code === 0 || first) return;
        first = ended;
        // They hear of it from each other, and say what it was; whoever does not is told to save what it has (a second signal would end it at once).
        this.teller = setTimeout(() => !this.told && this.send('SIGTERM'), NOTICE_MS);
        this.killer = setTimeout(() => this.send('SIGKILL'), this.grace * 1000);
      }),
    );
    clearTimeout(this.teller);
    clearTimeout(this.killer);
    return first;
  }
}

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const { nproc, port, maxRestarts = 0, grace = 30 } = values as { nproc?: number; port?: number; maxRestarts?: number; grace?: number };
  const command = (values._ as string[] | undefined) ?? [];
  requireFlags('launch', flags, values);
  if (command.length === 0)
    throw new FusedGrpoError('ERR_INVALID_ARG', 'launch needs a command after --: launch --nproc 2 -- train --model DIR ...');
  for (let attempt = 0; ; ++attempt) {
    const where = {
      MASTER_ADDR: '127.0.0.1',
      MASTER_PORT: String(port ?? (await freePort())),
      TORCHELASTIC_RESTART_COUNT: String(attempt),
    };
    const processes = new Attempt(command, nproc!, grace, { ...ctx.env, ...where });
    let interrupts = 0;
    const undo = ctx.onInterrupt(() => {
      ++interrupts;
      processes.send('SIGINT');
    });
    const failed = await processes.wait().finally(undo);
    if (!failed) return EXIT.ok;
    if (interrupts > 0) return EXIT.interrupted;
    const again = attempt < maxRestarts && failed.code !== EXIT.usage;
    ctx.stderr.write(`${describe(failed)}; ${again ? `starting all again (${attempt + 1} of ${maxRestarts})` : 'the run has ended'}\n`);
    if (!again) return failed.code === null || failed.code === EXIT.interrupted ? EXIT.failed : failed.code;
  }
}

export const launchCommand: Command = {
  name: 'launch',
  summary: 'run a training command in several processes on this machine',
  usage: '--nproc N [options] -- train|sft|reward train ...',
  examples: [
    'npx fused-grpo launch --nproc 2 -- train --model ./SmolLM2-135M --data prompts.jsonl --reward reward.mjs --output runs/two',
    'torchrun --no-python --nnodes 2 --nproc-per-node 4 ... npx fused-grpo train ...   # the same contract over several machines',
  ],
  notes: [
    'Each process trains on its part of every step; weights and metrics are those of one process with a batch as large as all of theirs (perDeviceTrainBatchSize is of each).',
    'Rank 0 prints and writes. Cores are divided among the processes unless OMP_NUM_THREADS is set.',
  ],
  flags: () => flags,
  positionals: true,
  run,
};
