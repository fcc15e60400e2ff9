// Names of the files that hold a checkpoint's weights.
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';

export const weightNames = {
  single: 'model.safetensors',
  index: 'model.safetensors.index.json',
  adapterConfig: 'adapter_config.json',
  adapter: 'adapter_model.safetensors',
} as const;

const modelError = (message: string): FusedGrpoError => new FusedGrpoError('ERR_MODEL', message);

/** Shard names of an index file. A name is a file of the folder itself, never a path. @throws FusedGrpoError ERR_MODEL */
export function shards(dir: string, index: unknown): string[] {
  const file = join(dir, weightNames.index);
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) throw modelError(`${file} has no weight_map`);
  const names = new Set<string>();
  for (const [tensor, name] of Object.entries(map)) {
    if (typeof name !== 'string' || !/^[^/\\\0]+\.safetensors$/.test(name))
      throw modelError(`${file}: weight_map[${JSON.stringify(tensor)}] must be the name of a .safetensors file in the same folder`);
    names.add(name);
  }
  if (names.size === 0) throw modelError(`${file} lists no tensors`);
  return [...names].sort();
}
