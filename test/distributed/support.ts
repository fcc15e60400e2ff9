// Runs of several processes, for tests.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

export const library = join(__dirname, '../../dist/cjs/index.js');
export const demoModel = join(__dirname, '../../demo/model');

export interface Job {
  trainer?: 'grpo' | 'ppo' | 'sft' | 'reward';
  model?: string;
  reward?: string;
  /** What is done with trainers: see rank.cjs. */
  plan?: 'once' | 'again' | 'inTurn' | 'sideBySide';
  evaluate?: boolean;
  /** Options of openAICompatible: servers sample. */
  servers?: object;
  /** Numbers go by what FUSED_GRPO_NCCL names. */
  nccl?: boolean;
  config: Record<string, unknown>;
  /** What some ranks do differently. */
  ranks?: Record<number, Record<string, unknown>>;
}

export interface RankResult {
  /** `of`: which loop, where there are several. */
  steps: { step: number; metrics: Record<string, number>; of?: string }[];
  /** The loops that came to their end. */
  ends: (string | undefined)[];
  error?: string;
  code?: string;
  exit: number | null;
  seconds: number;
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

function runRank(job: Job, env: Record<string, string>, limit: number, within: string[] = []): Promise<RankResult> {
  const begin = performance.now();
  const [command, ...args] = [
    ...within,
    process.execPath,
    join(__dirname, 'rank.cjs'),
    library,
    JSON.stringify({ model: demoModel, ...job }),
  ];
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      env: { ...process.env, NODE_OPTIONS: '', OMP_NUM_THREADS: '1', ...env },
    });
    const killer = setTimeout(() => child.kill('SIGKILL'), limit);
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => (out += String(chunk)));
    child.stderr.on('data', (chunk) => (err += String(chunk)));
    child.on('close', (exit) => {
      clearTimeout(killer);
      const lines = out
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Partial<RankResult['steps'][0]> & { end?: boolean; error?: string; code?: string });
      const failed = lines.find((l) => l.error !== undefined);
      const steps = lines.filter((l) => l.step !== undefined) as RankResult['steps'];
      const ends = lines.filter((l) => l.end).map((l) => l.of);
      const error = failed?.error ?? (exit === 0 || exit === 3 ? undefined : err || undefined);
      resolve({ steps, ends, error, code: failed?.code, exit, seconds: (performance.now() - begin) / 1000 });
    });
  });
}

/** The ranks of a run in network namespaces of their own. */
export function runApart(job: Job, places: { within: string[] }[], masterAddr: string, limit: number): Promise<RankResult[]> {
  const common = { WORLD_SIZE: String(places.length), MASTER_ADDR: masterAddr, MASTER_PORT: '29500' };
  return Promise.all(places.map(({ within }, rank) => runRank(job, { ...common, RANK: String(rank) }, limit, within)));
}

/** All ranks of a run, each a process; `limit`: milliseconds after which a process is killed. */
export async function runRanks(worldSize: number, job: Job, limit = 90_000): Promise<RankResult[]> {
  if (worldSize === 1) return [await runRank(job, { RANK: '', WORLD_SIZE: '' }, limit)];
  const port = String(await freePort());
  return Promise.all(
    Array.from({ length: worldSize }, (_, rank) =>
      runRank(job, { RANK: String(rank), WORLD_SIZE: String(worldSize), MASTER_ADDR: '127.0.0.1', MASTER_PORT: port }, limit),
    ),
  );
}

/** All numbers of a safetensors file (float32 or bfloat16), in its order. */
export function numbersOf(path: string): Float32Array {
  const bytes = readFileSync(path);
  const begin = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, begin)) as Record<string, { dtype: string; data_offsets: [number, number] }>;
  const names = Object.keys(header)
    .filter((name) => name !== '__metadata__')
    .sort();
  return Float32Array.from(
    names.flatMap((name) => {
      const { dtype, data_offsets: at } = header[name]!;
      const data = Uint8Array.from(bytes.subarray(begin + at[0], begin + at[1])).buffer;
      return dtype === 'F32'
        ? [...new Float32Array(data)]
        : [...new Uint16Array(data)].map((u) => new Float32Array(Uint32Array.of(u << 16).buffer)[0]!);
    }),
  );
}
