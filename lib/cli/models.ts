// --model DIR or ID: a folder, or a model of the hub, which is fetched before anything else begins and with its progress shown.
import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { parseModelId } from '../hub/id.js';
import { downloadLines } from '../hub/resolve.js';
import type { CliContext } from './context.js';
import { flagName, type FlagSpec } from './options.js';

export const modelFlag: FlagSpec = {
  type: 'string',
  valueName: 'DIR',
  required: true,
  description: 'Folder of the model, in Hugging Face layout, or the id of one of the hub (org/name, org/name@revision)',
};

export interface CheckedModel {
  /** What trainers get: the folder's path, or the id (whose files are in the cache now). */
  name: string;
  folder: string;
}

/** A model that is there, as the user wrote it; refused in the user's words. */
export async function checkModel(name: string, value: unknown, ctx: CliContext, { weights = true } = {}): Promise<CheckedModel> {
  const text = String(value);
  const path = resolve(ctx.cwd, text);
  const fail = (why: string) => new FusedGrpoError('ERR_INVALID_ARG', `${flagName(name)}: ${why}`);
  if (existsSync(path)) {
    if (!statSync(path).isDirectory()) throw fail(`${text} is a file; a folder is needed`);
    return { name: path, folder: path };
  }
  if (!parseModelId(text)) throw fail(`there is no folder ${text}`);
  try {
    const folder = await ctx.api
      .hub()
      .resolveModel(text, { env: ctx.env, weights, onDownload: downloadLines((line) => ctx.stderr.write(line + '\n')) });
    return { name: text, folder };
  } catch (error) {
    if (error instanceof FusedGrpoError)
      throw new FusedGrpoError(error.code, `${flagName(name)}: ${error.message.replace(/^There/, 'there')}`, { cause: error });
    throw error;
  }
}
