// From what a user calls a model to a folder: a local one, one of the cache, or one that is fetched first (and said so).
import { cachedSnapshot } from './cache.js';
import { downloadModel, type DownloadProgress } from './download.js';
import { offlineError } from './errors.js';
import { hubModel } from './id.js';
import { hubSettings } from './settings.js';

export type { DownloadProgress } from './download.js';

export interface ResolveOptions {
  /** Default: HF_ENDPOINT, else https://huggingface.co. */
  hubUrl?: string;
  /** Told what is fetched and how far it is; default: lines on stderr. */
  onDownload?: (progress: DownloadProgress) => void;
  signal?: AbortSignal;
  /** false: config.json and tokenizer are enough. Default true. */
  weights?: boolean;
  env?: Record<string, string | undefined>;
}

const size = (bytes: number): string => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`);

/** Progress as lines of text: what is fetched from where to where, then every tenth of it. */
export function downloadLines(write: (line: string) => void): (progress: DownloadProgress) => void {
  let tenth = 0;
  return ({ model, revision, url, folder, file, files, bytes, totalBytes }) => {
    if (file === undefined) return write(`Fetching ${model}@${revision} from ${url}: ${files} files, ${size(totalBytes)}, into ${folder}`);
    const now = Math.floor((10 * bytes) / Math.max(1, totalBytes));
    if (now === tenth) return;
    tenth = now;
    write(`  ${now * 10} % (${size(bytes)} of ${size(totalBytes)}): ${file}`);
  };
}

/**
 * The folder of a model. A file or folder of that name always wins; what is in the cache of huggingface_hub needs no network; anything else
 * of the form `org/name` or `name`, with `@revision`, is fetched. Other texts are returned as they are.
 * @throws FusedGrpoError ERR_MODEL, ERR_IO; the signal's reason.
 */
export async function resolveModel(model: string, options: ResolveOptions = {}): Promise<string> {
  const id = hubModel(model);
  if (!id) return model;
  const settings = hubSettings(options.env ?? process.env, options.hubUrl);
  const cached = cachedSnapshot(settings.cache, id, { lenient: settings.offline, weights: options.weights !== false });
  if (cached !== undefined) return cached;
  if (settings.offline) throw offlineError(id, settings);
  const toStderr = downloadLines((line) => process.stderr.write(`fused-grpo: ${line}\n`));
  return downloadModel(id, settings, options.onDownload ?? toStderr, options);
}
