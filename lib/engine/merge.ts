// A whole model of an adapter and its base.
import { FusedGrpoError } from '../errors.js';
import type { LoadOptions } from './options.js';
import { Policy } from './policy.js';

/**
 * Loads the adapter in `dir` with its base model, adds it to the weights (rounded once to their dtype) and writes the whole model to
 * `output`, in Hugging Face layout.
 * @throws FusedGrpoError ERR_MODEL: `dir` is no adapter; and as Policy.load and Policy.save do.
 */
export async function mergeAdapter(dir: string, output: string, options: LoadOptions = {}): Promise<void> {
  const policy = await Policy.load(dir, options);
  try {
    if (!policy.adapter) throw new FusedGrpoError('ERR_MODEL', `${dir} is a whole model, not an adapter (it has no adapter_config.json)`);
    await policy.mergeAdapter();
    await policy.save(output, options.signal ? { signal: options.signal } : {});
  } finally {
    policy.dispose();
  }
}
