// Which GPU a process of a run has.
import { FusedGrpoError } from '../errors.js';
import { capabilities } from '../capabilities.js';
import { rankEnvironment, type RankEnvironment } from './environment.js';

/**
 * The index of this process's own GPU among `gpus` visible ones: that of LOCAL_RANK, or the only one where the launcher shows each process
 * its own (CUDA_VISIBLE_DEVICES, Slurm's --gpus-per-task). 0 for a process alone.
 */
export function ownGpu(gpus: number, environment: Pick<RankEnvironment, 'localRank'> | undefined): number {
  if (!environment || gpus <= 1) return 0;
  const { localRank } = environment;
  if (localRank < gpus) return localRank;
  throw new FusedGrpoError(
    'ERR_INVALID_ARG',
    `LOCAL_RANK is ${localRank}, but this machine has ${gpus} GPUs: start at most ${gpus} processes on it, or name each one's device`,
  );
}

/** The GPU that 'cuda' means in this process. */
export function ownCudaDevice(): string {
  const environment = rankEnvironment();
  const gpus = environment ? capabilities().devices.filter(({ name }) => name.startsWith('cuda')).length : 1;
  return `cuda:${ownGpu(gpus, environment)}`;
}

/** This process's own GPU, or 'cpu' where there is none to use. */
export const ownDevice = (): string => (capabilities().cuda ? ownCudaDevice() : 'cpu');
