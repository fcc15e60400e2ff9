// `launch`: the processes of a data parallel run on this machine, as torchrun starts them, without Python.
import { createServer } from 'node:net';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { packageRoot } from '../native.js';
import { Attempt, causeOf, describe, type Ended } from './attempt.js';
import { parseFor, type Command } from './command.js';
import { readConfigFile } from './config-file.js';
import type { CliContext } from './context.js';
import { EXIT } from './errors.js';
import { rewardTrainCommand } from './reward.js';
import { sftCommand } from './sft.js';
import { trainCommand } from './train.js';
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

/** A port that nobody listens at; the wanted one, if it is free. */
function freePort(wanted = 0): Promise<number> {
  return new Promise((found, reject) => {
    const server = createServer();
    server.once('error', () =>
      reject(new FusedGrpoError('ERR_INVALID_ARG', `--port ${wanted} is taken: leave it out, or choose another one`)),
    );
    server.listen(wanted, () => {
      const { port } = server.address() as { port: number };
      server.close(() => found(port));
    });
  });
}

/** The commands that know of ranks. */
const trainers: readonly Command[] = [trainCommand, sftCommand, rewardTrainCommand];

/** Of the same contract: `ProcessGroup`, or trainers in a loop of one's own. */
const isProgram = (file: string | undefined): file is string => file !== undefined && /\.[cm]?js$/.test(file);

/** What Node runs in each process: a program of the user's own, or a command that trains; a slip in its flags is told once, not by every rank. */
function toRun(command: readonly string[], ctx: CliContext): { name: string; argv: readonly string[]; program: boolean } {
  const [first, ...rest] = command;
  if (isProgram(first)) {
    const file = resolve(ctx.cwd, first);
    if (!existsSync(file)) throw new FusedGrpoError('ERR_INVALID_ARG', `There is no program ${first} to launch`);
    return { name: first, argv: [file, ...rest], program: true };
  }
  const found = trainers.find(({ name }) => name.split(' ').every((word, i) => word === command[i]));
  if (found) {
    parseFor(found, command.slice(found.name.split(' ').length), ctx);
    return { name: found.name, argv: [join(packageRoot, 'scripts/cli.mjs'), ...command], program: false };
  }
  const names = `${trainers
    .map(({ name }) => name)
    .slice(0, -1)
    .join(', ')} and ${trainers.at(-1)!.name}`;
  const example = 'launch --nproc 2 -- train --model DIR ...';
  throw new FusedGrpoError(
    'ERR_INVALID_ARG',
    first === undefined
      ? `launch needs a command after --: ${example}`
      : `launch starts what trains (${names}), not '${first}', or a program of your own (loop.mjs): ${example}`,
  );
}

/** Whether a restart would go on: by the command line or the file of --config, whose own mistakes are its command's to tell. */
function resumes(command: readonly string[], cwd: string): boolean {
  const given = (flag: string) => {
    const at = command.findIndex((arg) => arg === flag || arg.startsWith(`${flag}=`));
    return at < 0 ? undefined : command[at] === flag ? command[at + 1] : command[at]!.slice(flag.length + 1);
  };
  if (given('--resume') !== undefined) return true;
  const file = given('--config');
  try {
    return file !== undefined && Object.keys(readConfigFile(resolve(cwd, file), file)).some((name) => /^resume/.test(name));
  } catch {
    return false;
  }
}

const exitCode = ({ code }: Ended): number => (code === null || code === EXIT.interrupted || code === EXIT.otherRank ? EXIT.failed : code);

async function run(values: FlagValues, ctx: CliContext): Promise<number> {
  const { nproc, port, maxRestarts = 0, grace = 30 } = values as { nproc?: number; port?: number; maxRestarts?: number; grace?: number };
  const command = (values._ as string[] | undefined) ?? [];
  requireFlags('launch', flags, values);
  const { name, argv, program } = toRun(command, ctx);
  if (maxRestarts > 0 && !program && !resumes(command, ctx.cwd))
    ctx.stderr.write(
      `--max-restarts without --resume auto: once ${name} has made a step, a restart finds its output folder in use and cannot go on\n`,
    );
  let first: Ended | undefined;
  for (let attempt = 0; ; ++attempt) {
    const where = {
      MASTER_ADDR: '127.0.0.1',
      MASTER_PORT: String(await freePort(port)),
      TORCHELASTIC_RESTART_COUNT: String(attempt),
    };
    const processes = new Attempt(argv, nproc!, grace, { ...ctx.env, ...where }, ctx.stderr);
    let interrupts = 0;
    const undo = ctx.onInterrupt(() => {
      ++interrupts;
      processes.interrupt();
    });
    const ends = await processes.wait().finally(undo);
    const cause = causeOf(ends);
    if (!cause) return EXIT.ok;
    if (interrupts > 0) return EXIT.interrupted;
    first ??= cause;
    const again = attempt < maxRestarts && cause.code !== EXIT.usage;
    // Input that was good enough at first is not what is wrong.
    const refused = first !== cause && cause.code === EXIT.usage;
    const end = refused ? 'so the restart cannot go on: the run has ended' : 'the run has ended';
    ctx.stderr.write(`${describe(ends, cause)}; ${again ? `starting all again (${attempt + 1} of ${maxRestarts})` : end}\n`);
    if (!again) return exitCode(refused ? first : cause);
  }
}

export const launchCommand: Command = {
  name: 'launch',
  summary: 'run a training command, or a program of your own, in several processes on this machine',
  usage: '--nproc N [options] -- train|sft|reward train|PROGRAM.mjs ...',
  examples: [
    'npx fused-grpo launch --nproc 2 -- train --model ./SmolLM2-135M --data prompts.jsonl --reward reward.mjs --output runs/two',
    'npx fused-grpo launch --nproc 2 -- loop.mjs   # a program with trainers or a ProcessGroup of its own',
    'torchrun --no-python --nnodes 2 --nproc-per-node 4 ... npx fused-grpo train ...   # the same contract over several machines',
  ],
  notes: [
    'Each process trains on its part of every step; weights and metrics are those of one process with a batch as large as all of theirs (perDeviceTrainBatchSize is of each).',
    'Rank 0 prints and writes. Cores are divided among the processes unless OMP_NUM_THREADS or FUSED_GRPO_THREADS is set.',
  ],
  flags: () => flags,
  positionals: true,
  run,
};
