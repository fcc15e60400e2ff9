// Which of the processes of a run this one is, as its launcher says: torchrun (and Kubeflow, and `fused-grpo launch`), or Slurm.
import { FusedGrpoError } from '../errors.js';

export interface RankEnvironment {
  /** Of this process, from 0. */
  rank: number;
  /** Processes of the run. */
  worldSize: number;
  /** Of this process on its machine. */
  localRank: number;
  /** Where the processes meet: rank 0's machine. */
  masterAddr: string;
  masterPort: number;
  /** Somebody else (torchrun's agent) holds the meeting point. */
  held: boolean;
  /** Which attempt of an elastic launcher this is: those of different attempts do not meet. */
  attempt: string;
}

const wrong = (message: string): FusedGrpoError => new FusedGrpoError('ERR_INVALID_ARG', message);

function whole(env: NodeJS.ProcessEnv, name: string, least: number): number {
  const text = env[name]?.trim() ?? '';
  if (text === '')
    throw wrong(`${name} is not set, but other variables of a run of several processes are (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)`);
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least)
    throw wrong(`Expected an integer from ${least} for ${name} but received ${JSON.stringify(text)}`);
  return value;
}

/** Slurm's names in torchrun's, where the user has said where to meet; `srun` gives each task its own. */
function translated(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, MASTER_ADDR } = env;
  if (env.RANK !== undefined || env.WORLD_SIZE !== undefined || !MASTER_ADDR || SLURM_PROCID === undefined || SLURM_NTASKS === undefined)
    return env;
  return { ...env, RANK: SLURM_PROCID, WORLD_SIZE: SLURM_NTASKS, LOCAL_RANK: SLURM_LOCALID, MASTER_PORT: env.MASTER_PORT ?? '29500' };
}

/**
 * This process's place among those of the run, or undefined where it is the only one (no variables, or WORLD_SIZE 1).
 * Throws FusedGrpoError ERR_INVALID_ARG when the variables are incomplete or contradict each other.
 */
export function rankEnvironment(given: NodeJS.ProcessEnv = process.env): RankEnvironment | undefined {
  const env = translated(given);
  if (!env.RANK && !env.WORLD_SIZE) return undefined;
  const worldSize = whole(env, 'WORLD_SIZE', 1);
  const rank = whole(env, 'RANK', 0);
  if (rank >= worldSize) throw wrong(`RANK ${rank} is not below WORLD_SIZE ${worldSize}: ranks count from 0`);
  if (worldSize === 1) return undefined;
  const masterAddr = env.MASTER_ADDR?.trim();
  if (!masterAddr) throw wrong('MASTER_ADDR is not set: give all ranks the name or address of the machine of rank 0');
  const masterPort = whole(env, 'MASTER_PORT', 1);
  if (masterPort > 65535) throw wrong(`Expected a port from 1 to 65535 for MASTER_PORT but received ${masterPort}`);
  return {
    rank,
    worldSize,
    localRank: env.LOCAL_RANK ? whole(env, 'LOCAL_RANK', 0) : rank,
    masterAddr,
    masterPort,
    held: env.TORCHELASTIC_USE_AGENT_STORE === 'True',
    attempt: `${env.TORCHELASTIC_RUN_ID ?? ''}/${env.TORCHELASTIC_RESTART_COUNT ?? '0'}`,
  };
}

/** How many processes the run has. */
export const worldSize = (): number => rankEnvironment()?.worldSize ?? 1;
