// Where the hub is, who we are there, and where its files are kept: the variables of huggingface_hub.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export interface HubSettings {
  /** HF_ENDPOINT, else https://huggingface.co */
  url: string;
  /** HF_TOKEN, else what `hf auth login` has written. */
  token?: string;
  /** HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, else hub/ in HF_HOME, else in ~/.cache/huggingface */
  cache: string;
  /** HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: nothing is fetched. */
  offline: boolean;
}

const isSet = (value: string | undefined): boolean => ['1', 'true', 'yes', 'on'].includes((value ?? '').toLowerCase());

function savedToken(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch {
    return undefined; // nobody has logged in
  }
}

export function hubSettings(env: Record<string, string | undefined>, url?: string): HubSettings {
  const home = env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
  const token = env.HF_TOKEN?.trim() || env.HUGGING_FACE_HUB_TOKEN?.trim() || savedToken(env.HF_TOKEN_PATH ?? join(home, 'token'));
  return {
    url: (url ?? (env.HF_ENDPOINT || 'https://huggingface.co')).replace(/\/+$/, ''),
    ...(token === undefined ? {} : { token }),
    cache: env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub'),
    offline: isSet(env.HF_HUB_OFFLINE) || isSet(env.TRANSFORMERS_OFFLINE),
  };
}
