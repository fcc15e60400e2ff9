// What this installation can do. Asking never throws: a part that is missing is reported with the reason.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { core, engine, packageRoot } from './native.js';

/** A device that the engine can use. */
export interface DeviceInfo {
  /** 'cpu', 'cuda:0', … as options take it. */
  name: string;
  /** The card's name. */
  description?: string;
  /** The card's memory. */
  memoryBytes?: number;
  /** e.g. '9.0' */
  computeCapability?: string;
}

/** What this installation can do. */
export interface Capabilities {
  /** The package's version. */
  version: string;
  /** The core addon (functional ops) loads. */
  core: boolean;
  /** The engine addon (models, sampling, training on libtorch) loads. */
  engine: boolean;
  /** The engine can compute on a GPU here and now. */
  cuda: boolean;
  /** Where tensors and models can live. */
  devices: DeviceInfo[];
  /** The libtorch the engine was built with; null without an engine. */
  torchVersion: string | null;
  /** GPU architectures the kernels were compiled for, e.g. ['80', '90a']; empty without CUDA. */
  cudaArchitectures: string[];
  /** The instruction set that the CPU kernels chose on this machine: 'avx512', 'avx2', 'neon' or 'portable'; null when unknown. */
  simd: string | null;
  /** Threads that libtorch uses by default; null without an engine. */
  threads: number | null;
  /** Node's version. */
  node: string;
  /** Operating system and processor: 'linux-x64'. */
  platform: string;
  /** Why a part is not there, and the command that mends it. */
  reasons: { core?: string; engine?: string; cuda?: string };
}

type Loose = Record<string, unknown>;
const NOT_BUILT_IN = 'built without CUDA'; // native/torch/cuda_context.cc

/** A member that may be a value, a function or absent: addons grow, this file stays. */
function member(addon: Loose, name: string): unknown {
  const value = addon[name];
  return typeof value === 'function' ? (value as () => unknown).call(addon) : value;
}

const asText = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const asStrings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

/** Runs `probe`; when it throws, the message is kept and nothing is thrown. */
function attempt(reasons: Capabilities['reasons'], part: 'core' | 'engine', probe: () => void): boolean {
  try {
    probe();
    return true;
  } catch (error) {
    reasons[part] = error instanceof Error ? error.message : String(error);
    return false;
  }
}

export function packageVersion(): string {
  try {
    return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    return 'unknown';
  }
}

function readEngine(result: Capabilities): void {
  const info = (engine() as unknown as { info(): Loose }).info();
  result.torchVersion = asText(info.torchVersion);
  result.threads = typeof info.threads === 'number' ? info.threads : null;
  result.cudaArchitectures = asStrings(info.cudaArchitectures);
  const gpus = Array.isArray(info.devices)
    ? (info.devices as (DeviceInfo | string)[]).map((d) => (typeof d === 'string' ? { name: d } : d))
    : [];
  result.cuda = info.cuda === true || gpus.some((d) => d.name.startsWith('cuda'));
  result.devices = gpus.some((d) => d.name === 'cpu') ? gpus : [{ name: 'cpu' }, ...gpus];
  if (result.cuda) return;
  const reason = asText(info.cudaReason) ?? NOT_BUILT_IN;
  result.reasons.cuda = reason === NOT_BUILT_IN ? `${reason}; to build it in: FUSED_GRPO_CUDA=1 npx fused-grpo build engine` : reason;
}

/**
 * What is built and usable here. Never throws; loads the addons (under a second) on the first call.
 *
 *     const { engine, reasons } = capabilities();
 *     if (!engine) console.error(reasons.engine); // names the command that builds it
 */
export function capabilities(): Capabilities {
  const result: Capabilities = {
    version: packageVersion(),
    core: false,
    engine: false,
    cuda: false,
    devices: [],
    torchVersion: null,
    cudaArchitectures: [],
    simd: null,
    threads: null,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    reasons: {},
  };
  result.core = attempt(result.reasons, 'core', () => (result.simd = asText(member(core() as unknown as Loose, 'simd'))));
  result.engine = attempt(result.reasons, 'engine', () => readEngine(result));
  if (!result.engine) result.reasons.cuda = 'the engine is not there';
  return result;
}
