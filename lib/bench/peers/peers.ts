// Peer projects as ops of a case: their processes are measured round by round in turn with our own ops, on the same inputs.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../native.js';
import { measure, type MeasureOptions, type Op, type Row } from '../measure.js';
import { Others, doubt } from './others.js';
import type { PeersPython } from './python.js';
import { PeerFailure, PeerWorker, type Answer, type WorkerOptions } from './worker.js';

/** What a peer's process says of one round. */
export interface PeerRun {
  seconds: number;
  /** Of its process, from request to answer. */
  cpuSeconds?: number;
  phases?: Record<string, number>;
  peakRssBytes?: number;
  /** Tokens that were generated. */
  tokens?: number;
}

// glibc hands large blocks back to the kernel at once, and each is faulted in again: up to three times slower.
const KEEP_FREED_MEMORY = { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: String(2 ** 36), MALLOC_TOP_PAD_: String(2 ** 28) };

const WAYS = [
  { suffix: '', env: {} },
  { suffix: ' (malloc kept)', env: KEEP_FREED_MEMORY },
] as const;

const NAMES: Readonly<Record<string, { name: string; package: string }>> = {
  loss: { name: 'TRL', package: 'trl' },
  linear: { name: 'TRL', package: 'trl' },
  liger: { name: 'Liger', package: 'liger-kernel' },
  step: { name: 'TRL', package: 'trl' },
};

/** One peer in one environment. A failure is kept, not thrown: the case goes on without it. */
export class Peer {
  failure?: string;
  readonly runs: PeerRun[] = [];
  private readonly others = new Others();

  constructor(
    readonly name: string,
    /** The case of the worker. */
    readonly kind: string,
    private readonly worker: PeerWorker,
    private readonly signal?: AbortSignal,
  ) {}

  /** The answer; undefined once the peer has failed. */
  async ask(fields: object): Promise<Answer | undefined> {
    if (this.failure !== undefined) return undefined;
    try {
      return await this.worker.request(fields);
    } catch (error) {
      this.signal?.throwIfAborted();
      if (!(error instanceof PeerFailure)) throw error;
      this.failure = error.message;
      return undefined;
    }
  }

  /** Forgets what was measured: the first round warms up. */
  restart(): void {
    this.runs.length = 0;
    this.others.forget();
  }

  /** Measures one round. */
  async run(): Promise<PeerRun | undefined> {
    const stop = this.others.start();
    const answer = (await this.ask({ op: 'run' })) as PeerRun | undefined;
    if (!answer) return undefined;
    if (typeof answer.seconds !== 'number' || !(answer.seconds > 0)) {
      this.failure = `its answer makes no sense: seconds ${String(answer.seconds)}`;
      return undefined;
    }
    stop(answer.cpuSeconds ?? 0);
    this.runs.push(answer);
    return answer;
  }

  /** What makes its figures doubtful. */
  get doubt(): string | undefined {
    return doubt(
      this.name,
      this.runs.map((run) => run.seconds),
      this.others.share,
    );
  }

  close(): Promise<void> {
    return this.worker.close();
  }
}

/** The peers of one case, with a folder for its inputs and outputs. */
export class OpenPeers {
  readonly list: Peer[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), 'fused-grpo-peers-'));
  private readonly remarks: string[] = [];

  /** Writes an input as a raw file and returns its path. */
  write(name: string, array: NodeJS.ArrayBufferView): string {
    const path = join(this.folder, name);
    writeFileSync(path, array);
    return path;
  }

  leftOut(name: string, reason: string): void {
    this.remarks.push(`${name}: left out, ${reason}`);
  }

  /** Those that have not failed. */
  get alive(): Peer[] {
    return this.list.filter((peer) => peer.failure === undefined);
  }

  /** A line for every peer that could not run, with the reason, and for what makes figures doubtful; undefined when all is well. */
  get notes(): string[] | undefined {
    const remark = (p: Peer): string | undefined => (p.failure === undefined ? p.doubt : `${p.name}: left out, ${p.failure}`);
    const lines = [...this.remarks, ...this.list.flatMap((p) => remark(p) ?? [])];
    return lines.length > 0 ? lines : undefined;
  }

  async close(): Promise<void> {
    await Promise.all(this.list.map((peer) => peer.close()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface PeersOptions extends WorkerOptions {
  env: NodeJS.ProcessEnv;
  /** Threads of each peer: as many as ours. */
  threads: number;
  /** The worker; for tests. */
  script?: string;
}

export class Peers {
  constructor(
    private readonly found: PeersPython,
    private readonly options: PeersOptions,
  ) {}

  get versions(): Readonly<Record<string, string>> {
    return this.found.versions;
  }

  /** Starts the peers of a case, in every environment, one after the other, and gives them its inputs. */
  async open(kinds: readonly string[], inputs: (open: OpenPeers) => object): Promise<OpenPeers> {
    const open = new OpenPeers();
    let given: object;
    try {
      given = inputs(open);
    } catch (error) {
      for (const kind of kinds) open.leftOut(NAMES[kind]!.name, `its inputs cannot be written: ${(error as Error).message}`);
      return open;
    }
    try {
      for (const kind of kinds) await this.start(kind, { op: 'load', threads: this.options.threads, ...given }, open);
      return open;
    } catch (error) {
      await open.close(); // aborted
      throw error;
    }
  }

  private async start(kind: string, request: object, open: OpenPeers): Promise<void> {
    const { name, package: wanted } = NAMES[kind]!;
    const version = this.versions[wanted];
    if (version === undefined) return open.leftOut(name, `${wanted} is not installed in ${this.found.python}`);
    for (const { suffix, env } of WAYS) {
      const command = {
        file: this.found.python,
        args: [this.options.script ?? join(packageRoot, 'benchmarks', 'peers', 'worker.py')],
        env: { ...this.environment(), ...env },
      };
      const peer = new Peer(`${name} ${version}${suffix}`, kind, new PeerWorker(command, this.options), this.options.signal);
      open.list.push(peer);
      await peer.ask({ ...request, case: kind });
    }
  }

  private environment(): NodeJS.ProcessEnv {
    const { env, threads } = this.options;
    const offline = { HF_HUB_OFFLINE: '1', TRANSFORMERS_OFFLINE: '1', HF_DATASETS_OFFLINE: '1', HF_HUB_DISABLE_TELEMETRY: '1' };
    return { ...env, ...offline, CUDA_VISIBLE_DEVICES: '', OMP_NUM_THREADS: String(threads), PYTHONDONTWRITEBYTECODE: '1' };
  }
}

/** Times our ops and the peers' in turn; a peer that fails gives no row. Peers' rows come last, in the order of `open.list`. */
export async function measureWithPeers(
  ops: Readonly<Record<string, Op>>,
  open: OpenPeers | undefined,
  options: MeasureOptions,
): Promise<Row[]> {
  const theirs = open?.alive ?? [];
  const op = (peer: Peer): Op => {
    let first = true;
    return async () => {
      const seconds = (await peer.run())?.seconds ?? 0;
      if (first) peer.restart();
      first = false;
      return seconds;
    };
  };
  const rows = await measure({ ...ops, ...Object.fromEntries(theirs.map((p) => [p.name, op(p)])) }, options);
  const ours = rows.length - theirs.length;
  // Growth of this process says nothing of theirs.
  return rows.flatMap((row, i): Row[] => {
    const peer = theirs[i - ours];
    if (!peer) return [row];
    return peer.failure === undefined ? [{ ...row, extraBytes: undefined, peakRssBytes: peer.runs.at(-1)?.peakRssBytes }] : [];
  });
}
