// The test addon whose ops run on a GPU, where there is one; built when it is out of date (scripts/cuda-tests.mjs says when).
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { CudaAddon } from './addon.js';

const script = join(__dirname, '..', '..', 'scripts', 'cuda-tests.mjs');

/** The addon, or why it cannot run here. With FUSED_GRPO_CUDA_TESTS=require that is an error. */
export function cudaBackend(): { addon: CudaAddon; reason?: undefined } | { addon?: undefined; reason: string } {
  const { file, reason } = JSON.parse(execFileSync(process.execPath, [script, '--json'], { encoding: 'utf8' })) as {
    file?: string;
    reason?: string;
  };
  if (!reason) return { addon: require(file!) as CudaAddon };
  if (process.env.FUSED_GRPO_CUDA_TESTS === 'require') throw new Error(`The CUDA tests need an NVIDIA GPU: ${reason}`);
  return { reason };
}
