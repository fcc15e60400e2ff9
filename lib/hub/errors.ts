// What went wrong between us and the hub, in words that say what to do.
import { FusedGrpoError } from '../errors.js';
import type { ModelId } from './id.js';
import type { HubSettings } from './settings.js';

const NETWORK = /^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EPIPE|UND_ERR_.*|CERT_.*|DEPTH_ZERO.*)$/;

/** The system's word for a failed request; undefined when the failure was no network's. */
export function networkReason(error: unknown): string | undefined {
  for (let e = error as { cause?: unknown; code?: unknown; errors?: unknown[] } | undefined, depth = 0; e && depth < 5; ++depth) {
    if (typeof e.code === 'string' && NETWORK.test(e.code)) return e.code;
    e = (e.cause ?? e.errors?.[0]) as typeof e;
  }
  const text = error instanceof Error ? error.message : String(error);
  return /fetch failed|terminated|socket|network/i.test(text) ? text : undefined;
}

const shown = ({ name, revision }: ModelId): string => (revision === 'main' ? name : `${name}@${revision}`);

function refused(status: number, id: ModelId, { url, token }: HubSettings, detail: string): FusedGrpoError | undefined {
  const { name } = id;
  const page = `${url}/${name}`;
  if (status === 401 || status === 403) {
    const means = token
      ? `the token in HF_TOKEN has no access to ${name}: open ${page} in a browser, accept its terms if it has any, and use a token that may read it`
      : `${name} does not exist, or is gated or private: check the name at ${page}; if the page is there, accept its terms and set HF_TOKEN to a token of yours (${url}/settings/tokens)`;
    return new FusedGrpoError('ERR_MODEL', `There is no folder ${shown(id)}, and the hub refused it (${status}): ${means}`);
  }
  if (status === 404) {
    const what =
      /revision|commit|branch/i.test(detail) && id.revision !== 'main'
        ? `${name} has no revision ${id.revision}`
        : `the hub has no model ${shown(id)}`;
    return new FusedGrpoError('ERR_MODEL', `There is no folder ${shown(id)}, and ${what} (${page})`);
  }
  if (status === 429) return new FusedGrpoError('ERR_IO', `${url} is asked too often (429): wait a little, or set HF_TOKEN`);
  return undefined;
}

/** Any failure of a fetch as one of ours. `doing`: 'looked up', or the file that was being fetched. */
export function hubError(error: unknown, id: ModelId, settings: HubSettings, doing: string): Error {
  if (error instanceof FusedGrpoError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  const known = typeof status === 'number' ? refused(status, id, settings, message) : undefined;
  if (known) return known;
  const reason = networkReason(error);
  if (reason !== undefined)
    return new FusedGrpoError(
      'ERR_IO',
      `There is no folder ${shown(id)}, and ${settings.url} cannot be reached (${reason}; ${doing}): give the path of a model's folder, or mend the network; HF_ENDPOINT names another server`,
      { cause: error },
    );
  return new FusedGrpoError('ERR_IO', `${shown(id)} could not be fetched from ${settings.url} (${doing}): ${message}`, { cause: error });
}

export const offlineError = (id: ModelId, { cache }: HubSettings): FusedGrpoError =>
  new FusedGrpoError(
    'ERR_MODEL',
    `There is no folder ${shown(id)}, no whole copy of that model in ${cache}, and HF_HUB_OFFLINE forbids fetching it: unset it, or give a folder`,
  );
