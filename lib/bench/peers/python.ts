// Which Python runs the peers: the one that is named, the private one made earlier, the machine's if it has them; else a private one is made.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, statfsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { PeerFailure } from './worker.js';

export interface PeersPython {
  python: string;
  /** Of python and of the packages that are there. */
  versions: Readonly<Record<string, string>>;
}

export interface PythonSetup {
  env: NodeJS.ProcessEnv;
  /** Where the private Python is, or will be made. */
  folder?: string;
  log: (text: string) => void;
  signal?: AbortSignal;
}

/** The pinned versions that are installed. Older torch than the engine's would compare libtorch versions, not projects. */
export const PACKAGES = {
  torch: '2.15.0',
  transformers: '5.23.0',
  trl: '1.16.0',
  'liger-kernel': '0.8.5',
  accelerate: '1.15.0',
  datasets: '5.2.0',
} as const;

// pip's usual torch for x86-64 holds CUDA, and does not load without CUDA's libraries; an index of CPU wheels in pip's settings avoids them.
const DISK_BYTES = 10e9;

const NAMED = 'FUSED_GRPO_PEERS_PYTHON';
const FOLDER = 'FUSED_GRPO_PEERS_FOLDER';

const PROBE = `import importlib.metadata as m, json, platform
v = {"python": platform.python_version()}
for name in ${JSON.stringify(Object.keys(PACKAGES))}:
    try: v[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(v))`;

const run = promisify(execFile);

/** The versions of `python`'s packages; throws PeerFailure when it does not start or has no TRL. */
export async function probe(python: string, { env, signal }: Pick<PythonSetup, 'env' | 'signal'>): Promise<PeersPython> {
  let versions: Record<string, string>;
  try {
    versions = JSON.parse((await run(python, ['-c', PROBE], { env, signal })).stdout) as Record<string, string>;
  } catch (error) {
    signal?.throwIfAborted();
    throw new PeerFailure(`${python} cannot be used: ${reasonOf(error)}`);
  }
  const missing = ['torch', 'transformers', 'trl'].filter((name) => !versions[name]);
  if (missing.length > 0) throw new PeerFailure(`${python} has no ${missing.join(', no ')}`);
  return { python, versions };
}

/** What a failed command says, in one line: its last line with an error in it. */
function reasonOf(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  const lines = (stderr || message).trim().split('\n');
  return (lines.filter((line) => /error/i.test(line)).at(-1) ?? lines.at(-1)!).trim();
}

export function peersFolder({ env, folder }: Pick<PythonSetup, 'env' | 'folder'>): string {
  const named = folder ?? env[FOLDER];
  if (named) return named;
  const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache');
  return join(cache, 'fused-grpo', `peers-torch${PACKAGES.torch}-trl${PACKAGES.trl}-liger${PACKAGES['liger-kernel']}`);
}

const pythonIn = (folder: string): string => join(folder, 'bin', 'python');

function remove(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // where nothing can be removed, nothing was made
  }
}

/** Makes the private Python in a folder beside, renamed at the end: what is there is whole, also with two processes at it. */
async function install(folder: string, { env, log, signal }: PythonSetup): Promise<void> {
  const part = `${folder}.part-${process.pid}`;
  const pins = Object.entries(PACKAGES).map(([name, version]) => `${name}==${version}`);
  try {
    mkdirSync(dirname(folder), { recursive: true });
    const disk = statfsSync(dirname(folder));
    if (disk.bavail * disk.bsize < DISK_BYTES) throw new Error(`${DISK_BYTES / 1e9} GB of free disk space are needed for ${folder}`);
    log(`Installing ${pins.join(', ')} with pip (once, into ${folder}; several GB) ...`);
    await run('python3', ['-m', 'venv', part], { env, signal });
    const flags = ['--quiet', '--disable-pip-version-check', '--no-cache-dir'];
    await run(pythonIn(part), ['-m', 'pip', 'install', ...flags, ...pins], { env, signal, maxBuffer: 1 << 26 });
    if (!existsSync(folder)) renameSync(part, folder);
    else remove(part);
  } catch (error) {
    remove(part);
    signal?.throwIfAborted();
    throw new PeerFailure(`they could not be installed: ${reasonOf(error)}`);
  }
}

/** Finds or makes the Python of the peers; throws PeerFailure with the reason why there is none. */
export async function peersPython(setup: PythonSetup): Promise<PeersPython> {
  const named = setup.env[NAMED];
  if (named) return probe(named, setup);
  const folder = peersFolder(setup);
  if (existsSync(pythonIn(folder))) return probe(pythonIn(folder), setup);
  try {
    return await probe('python3', setup);
  } catch (error) {
    if (!(error instanceof PeerFailure)) throw error;
  }
  await install(folder, setup);
  return probe(pythonIn(folder), setup);
}
