// Fetching a model into the cache: the files that we read, each checked for its length (and its digest, where the hub gives one).
import { createHash } from 'node:crypto';
import { mkdirSync, openSync, closeSync, readFileSync, renameSync, rmSync, writeSync, fsyncSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { COMPANIONS } from '../engine/folder.js';
import { shards, weightNames } from '../engine/weight_files.js';
import { FusedGrpoError } from '../errors.js';
import { hasBlob, linkBlob, rememberAbsent, rememberRevision, repoFolder, snapshotFolder } from './cache.js';
import { hubError, networkReason } from './errors.js';
import type { ModelId } from './id.js';
import type { HubSettings } from './settings.js';

/** How far a fetch is. The first event has bytes 0 and no file; the last one has bytes equal to totalBytes. */
export interface DownloadProgress {
  /** The id. */
  model: string;
  /** Branch, tag or commit. */
  revision: string;
  /** The server. */
  url: string;
  /** Where it goes. */
  folder: string;
  /** What is being fetched; absent before the first file and after the last. */
  file?: string;
  /** How many files there are to fetch. */
  files: number;
  /** Fetched so far. */
  bytes: number;
  /** Of all files. */
  totalBytes: number;
}

interface Entry {
  path: string;
  size: number;
  oid?: string;
  lfs?: { oid: string; size: number };
}

/** The part of @huggingface/hub that is used. Its downloadFileToCacheDir neither checks lengths nor tells how far it is. */
interface Hub {
  modelInfo(params: object): Promise<{ sha?: string }>;
  listFiles(params: object): AsyncIterable<Entry & { type: string }>;
  downloadFile(params: object): Promise<Blob | null>;
}

interface Job {
  id: ModelId;
  settings: HubSettings;
  /** Given with every request. */
  common: { repo: { type: 'model'; name: string }; hubUrl: string; accessToken?: string; fetch: typeof fetch; revision: string };
  hub: Hub;
  repo: string;
  commit: string;
  report: (file: string, more: number) => void;
}

let parts = 0;
const SMALL = new Set<string>(['config.json', ...COMPANIONS, weightNames.index, weightNames.adapterConfig]);

/** Bytes of a response into a temporary file; returns how many came and their SHA-256. */
async function receive(blob: Blob, part: string, onBytes: (n: number) => void): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const fd = openSync(part, 'w');
  try {
    for await (const chunk of blob.stream() as unknown as AsyncIterable<Uint8Array>) {
      for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done);
      hash.update(chunk);
      bytes += chunk.length;
      onBytes(chunk.length);
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return { bytes, sha256: hash.digest('hex') };
}

async function fetchBlob(job: Job, entry: Entry, blobFile: string): Promise<void> {
  const part = `${blobFile}.${process.pid}-${++parts}.incomplete`; // its own, should the same model be fetched twice at the same time
  const size = entry.lfs?.size ?? entry.size;
  let arrived = 0;
  const count = (n: number) => ((arrived += n), job.report(entry.path, n));
  const brokeOff = (cause?: unknown) =>
    new FusedGrpoError('ERR_IO', `${job.id.name}: ${entry.path} broke off after ${arrived} of ${size} bytes; run it again`, { cause });
  mkdirSync(dirname(blobFile), { recursive: true });
  try {
    const blob = await job.hub.downloadFile({ ...job.common, path: entry.path, xet: false });
    if (!blob) throw new FusedGrpoError('ERR_MODEL', `${job.id.name}: ${entry.path} is listed but not there`);
    const got = await receive(blob, part, count);
    if (got.bytes !== size) throw brokeOff();
    if (entry.lfs && got.sha256 !== entry.lfs.oid)
      throw new FusedGrpoError(
        'ERR_IO',
        `${job.id.name}: ${entry.path} arrived damaged (its SHA-256 is not what the hub says); run it again`,
      );
    renameSync(part, blobFile);
  } catch (error) {
    rmSync(part, { force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC') throw new FusedGrpoError('ERR_IO', `Cannot write ${part}: the disk is full`, { cause: error });
    throw arrived > 0 && networkReason(error) !== undefined
      ? brokeOff(error)
      : hubError(error, job.id, job.settings, `fetching ${entry.path}`);
  }
}

async function place(job: Job, entry: Entry): Promise<void> {
  const blob = join(job.repo, 'blobs', (entry.lfs?.oid ?? entry.oid ?? '').replace(/[^0-9A-Za-z]/g, '') || entry.path);
  const size = entry.lfs?.size ?? entry.size;
  if (hasBlob(blob, size)) job.report(entry.path, size);
  else await fetchBlob(job, entry, blob);
  linkBlob(blob, join(snapshotFolder(job.repo, job.commit), entry.path));
}

/** The weights among a model's files: one file, the shards that its index names, or an adapter. The index must be there already. */
function weightsOf(job: Job, entries: readonly Entry[]): Entry[] {
  const named = (names: readonly string[]) => names.map((name) => entries.find((e) => e.path === name));
  const has = (name: string) => entries.some((e) => e.path === name);
  const folder = snapshotFolder(job.repo, job.commit);
  const names = has(weightNames.adapterConfig)
    ? [weightNames.adapter]
    : has(weightNames.single)
      ? [weightNames.single]
      : has(weightNames.index)
        ? shards(folder, JSON.parse(readFileSync(join(folder, weightNames.index), 'utf8')))
        : undefined;
  if (!names) {
    const old = has('pytorch_model.bin') ? ' (it has pytorch_model.bin, which is not read: convert it to safetensors)' : '';
    throw new FusedGrpoError('ERR_MODEL', `${job.id.name} has neither ${weightNames.single} nor ${weightNames.index}${old}`);
  }
  const missing = names.find((_, i) => named(names)[i] === undefined);
  if (missing !== undefined) throw new FusedGrpoError('ERR_MODEL', `${job.id.name} has no ${missing}`);
  return named(names) as Entry[];
}

async function lookUp(common: Job['common'], hub: Hub, id: ModelId, settings: HubSettings): Promise<{ commit: string; entries: Entry[] }> {
  try {
    const { sha } = await hub.modelInfo({ ...common, name: id.name, additionalFields: ['sha'] });
    if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha)) throw new Error('the server named no commit');
    const entries: Entry[] = [];
    for await (const entry of hub.listFiles({ ...common, revision: sha })) if (entry.type === 'file') entries.push(entry);
    return { commit: sha, entries };
  } catch (error) {
    throw hubError(error, id, settings, 'looked up');
  }
}

/**
 * Fetches a model into the cache (without `weights`: all but those) and returns its snapshot's folder. Small files first and weights last: whole weights mean a whole model.
 * @throws FusedGrpoError ERR_MODEL (no such model, no access), ERR_IO (network, disk, broken off); the signal's reason.
 */
export async function downloadModel(
  id: ModelId,
  settings: HubSettings,
  onProgress: (progress: DownloadProgress) => void,
  { signal, weights = true }: { signal?: AbortSignal; weights?: boolean } = {},
): Promise<string> {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- only who fetches a model needs it
  const hub = require('@huggingface/hub') as Hub;
  const request: typeof fetch = (input, init) => fetch(input, { ...init, ...(signal ? { signal } : {}) });
  const { url: hubUrl, token } = settings;
  const common = {
    ...{ repo: { type: 'model' as const, name: id.name }, hubUrl, fetch: request, revision: id.revision },
    ...(token === undefined ? {} : { accessToken: token }),
  };
  try {
    const { commit, entries } = await lookUp(common, hub, id, settings);
    const repo = repoFolder(settings.cache, id);
    const folder = snapshotFolder(repo, commit);
    const progress = { model: id.name, revision: id.revision, url: hubUrl, folder, files: 0, bytes: 0, totalBytes: 0 };
    const report = (file: string, more: number) => onProgress({ ...progress, file, bytes: (progress.bytes += more) });
    const job: Job = { id, settings, common: { ...common, revision: commit }, hub, repo, commit, report };
    const small = entries.filter((e) => SMALL.has(e.path));
    if (!small.some((e) => e.path === 'config.json' || e.path === weightNames.adapterConfig))
      throw new FusedGrpoError('ERR_MODEL', `${id.name} has no config.json: it is no model that can be loaded`);
    const index = small.find((e) => e.path === weightNames.index);
    if (index) await place({ ...job, report: () => undefined }, index);
    const wanted = weights ? [...small, ...weightsOf(job, entries)] : small;
    progress.files = wanted.length;
    progress.totalBytes = wanted.reduce((sum, e) => sum + (e.lfs?.size ?? e.size), 0);
    onProgress({ ...progress });
    for (const entry of wanted) await place(job, entry);
    if (!small.some((e) => e.path === 'tokenizer.json')) rememberAbsent(repo, commit, 'tokenizer.json');
    rememberRevision(repo, id.revision, commit);
    return folder;
  } catch (error) {
    signal?.throwIfAborted();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES' || code === 'EROFS' || code === 'ENOSPC')
      throw new FusedGrpoError('ERR_IO', `Cannot write to the cache ${settings.cache} (${code}); HF_HUB_CACHE names another folder`, {
        cause: error,
      });
    throw error;
  }
}
