// `launch`: the processes of one attempt at a run, from their start to their end.
import { spawn, type ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import type { CliContext, Output } from './context.js';
import { EXIT } from './errors.js';

/** How a process ended. */
export interface Ended {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
}

const named = (ranks: readonly number[]) => `${ranks.length === 1 ? 'rank' : 'ranks'} ${ranks.join(', ')}`;
const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1);

const outcome = ({ rank, code, signal }: Ended) =>
  `rank ${rank} ${signal ? `was ended by ${signal}` : `ended with exit code ${code === EXIT.otherRank ? EXIT.failed : code}`}`;

/** What ended the attempt: input that cannot be used (whoever says so first), else the first that failed, if it can be before those that it took along. */
export const causeOf = (ends: readonly Ended[]): Ended | undefined =>
  ends.find(({ code }) => code === EXIT.usage) ??
  ends.find(({ code }) => code !== 0 && code !== EXIT.otherRank) ??
  ends.find(({ code }) => code !== 0);

/** In a sentence, with those that left before as if all were well. */
export function describe(ends: readonly Ended[], cause: Ended): string {
  const early = ends.slice(0, ends.indexOf(cause)).filter(({ code }) => code === 0);
  const before = early.length ? `, after ${named(early.map(({ rank }) => rank))} had ended with exit code 0` : '';
  return capital(outcome(cause)) + before;
}

/** As many threads as cores in all, unless the user says otherwise: by one variable for both kinds of threads. */
export function threadsOf(env: CliContext['env'], nproc: number): Record<string, string> {
  const { OMP_NUM_THREADS: engine, FUSED_GRPO_THREADS: functional } = env;
  const divided = String(Math.max(1, Math.floor(availableParallelism() / nproc)));
  return { OMP_NUM_THREADS: engine || functional || divided, FUSED_GRPO_THREADS: functional || engine?.split(',')[0] || divided };
}

// What a rank has to say of another's end is better than what we can say: it gets so long to do so.
const NOTICE_MS = 3000;

export class Attempt {
  private readonly children: ChildProcess[];
  private readonly ends: Promise<Ended>[];
  private readonly ended: Ended[] = [];
  private readonly timers: NodeJS.Timeout[] = [];
  private interrupted = false;

  /** `argv`: of Node, a file and its arguments. `grace`: seconds that the others get to save and end when one has failed. */
  constructor(
    argv: readonly string[],
    nproc: number,
    private readonly grace: number,
    env: CliContext['env'],
    private readonly out: Output,
  ) {
    this.children = Array.from({ length: nproc }, (_, rank) =>
      spawn(process.execPath, argv, {
        env: {
          ...env,
          ...threadsOf(env, nproc),
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
          child.stdin!.on('error', () => undefined); // it has ended meanwhile
          child.once('error', () => resolve({ rank, code: EXIT.failed, signal: null }));
          child.once('exit', (code, signal) => resolve({ rank, code, signal }));
        }),
    );
  }

  /** The user's Ctrl-C. */
  interrupt(): void {
    this.interrupted = true;
    this.kill('SIGINT');
  }

  private get running(): number[] {
    return this.children.flatMap(({ exitCode, signalCode }, rank) => (exitCode === null && signalCode === null ? [rank] : []));
  }

  private kill(signal: NodeJS.Signals): void {
    for (const rank of this.running) this.children[rank]!.kill(signal);
  }

  /** Tells those that run which one is missing: they save and end. */
  private tell(missing: Ended): void {
    if (this.interrupted) return;
    for (const rank of this.running) this.children[rank]!.stdin!.write(capital(outcome(missing)) + '\n');
  }

  private failed(first: Ended): void {
    if (first.signal) this.tell(first); // it cannot have said anything itself
    const notice = setTimeout(() => {
      if (!first.signal) this.tell(first);
      const { running } = this;
      const waiting = `waiting up to ${this.grace} s for ${named(running)} to save and end`;
      if (running.length > 0 && !this.interrupted) this.out.write(`${describe(this.ended, first)}; ${waiting}\n`);
    }, NOTICE_MS);
    this.timers.push(
      notice,
      setTimeout(() => this.kill('SIGKILL'), this.grace * 1000),
    );
  }

  /** How all ended, in that order. */
  async wait(): Promise<Ended[]> {
    await Promise.all(
      this.ends.map(async (end) => {
        const ended = await end;
        this.ended.push(ended);
        if (ended.code !== 0 && this.timers.length === 0) this.failed(ended);
      }),
    );
    this.timers.forEach(clearTimeout);
    return this.ended;
  }
}
