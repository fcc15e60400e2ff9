// The cache of huggingface_hub, which Python shares: models--org--name/{blobs,refs,snapshots}. Files of a snapshot are links to blobs.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { shards, weightNames } from '../engine/weight_files.js';
import type { ModelId } from './id.js';

const COMMIT = /^[0-9a-f]{40}$/;

export const repoFolder = (cache: string, { name }: ModelId): string => join(cache, `models--${name.replace('/', '--')}`);

export const snapshotFolder = (repo: string, commit: string): string => join(repo, 'snapshots', commit);

/** The commit that the cache knows a revision as. */
function cachedCommit(repo: string, revision: string): string | undefined {
  if (COMMIT.test(revision)) return revision;
  try {
    return readFileSync(join(repo, 'refs', revision), 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Weights (all shards of them) and config.json are there. Broken links do not count. */
function isWhole(folder: string): boolean {
  const has = (name: string) => existsSync(join(folder, name));
  if (has(weightNames.adapterConfig)) return has(weightNames.adapter);
  if (!has('config.json')) return false;
  if (has(weightNames.single)) return true;
  if (!has(weightNames.index)) return false;
  try {
    return shards(folder, JSON.parse(readFileSync(join(folder, weightNames.index), 'utf8'))).every(has);
  } catch {
    return false; // fetched again, and then refused by whoever reads it
  }
}

/**
 * The snapshot of a model in the cache, when it can be used as it is. A tokenizer is missing where Python has fetched weights alone; that a
 * model has none is remembered the way huggingface_hub does (.no_exist). `lenient`: without the network, what is there must do. Without
 * `weights`, those may be missing.
 */
export function cachedSnapshot(
  cache: string,
  id: ModelId,
  { lenient, weights }: { lenient: boolean; weights: boolean },
): string | undefined {
  const repo = repoFolder(cache, id);
  const commit = cachedCommit(repo, id.revision);
  if (commit === undefined) return undefined;
  const folder = snapshotFolder(repo, commit);
  if (weights ? !isWhole(folder) : !existsSync(join(folder, 'config.json'))) return undefined;
  const knowsTokenizer = existsSync(join(folder, 'tokenizer.json')) || existsSync(join(repo, '.no_exist', commit, 'tokenizer.json'));
  return knowsTokenizer || lenient ? folder : undefined;
}

export function rememberAbsent(repo: string, commit: string, name: string): void {
  const file = join(repo, '.no_exist', commit, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, '');
}

export function rememberRevision(repo: string, revision: string, commit: string): void {
  if (COMMIT.test(revision)) return;
  const file = join(repo, 'refs', revision);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.${process.pid}`, commit);
  renameSync(`${file}.${process.pid}`, file);
}

/** A whole blob under the name that a snapshot has for it. Another process may do the same at the same time. */
export function linkBlob(blob: string, file: string): void {
  if (existsSync(file)) return;
  mkdirSync(dirname(file), { recursive: true });
  rmSync(file, { force: true }); // a link to what is gone
  try {
    symlinkSync(relative(dirname(file), blob), file);
  } catch (error) {
    if (!existsSync(file)) throw error;
  }
}

/** A blob of this size is there already: of another revision, or from Python. */
export const hasBlob = (blob: string, size: number): boolean => statSync(blob, { throwIfNoEntry: false })?.size === size;
