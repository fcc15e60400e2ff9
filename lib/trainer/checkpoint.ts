// Resumable checkpoints: outputDir/checkpoint-<step>/ is a Hugging Face folder plus trainer/ with what training needs to go on.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FusedGrpoError } from '../errors.js';
import type { Training } from '../engine/training.js';
import { makeFolder, writeFileAtomic, writeFolderAtomic } from './files.js';
import type { Cursor } from './dataset.js';
import { describeChange } from './schedule.js';
import type { Version } from './weight-sync.js';

export type TrainerKind = 'grpo' | 'ppo' | 'sft' | 'reward';

/** What a checkpoint saves as a model. */
export interface SavedModel {
  save(dir: string): Promise<void>;
}

/** What a trainer needs, besides weights and optimizer moments, to continue bit for bit. */
export interface TrainerCheckpoint {
  trainer: TrainerKind;
  step: number;
  cursor: Cursor;
  /** The options that decide which rows and samples come next; resuming under others is refused. */
  settings: Record<string, unknown>;
  /** GRPO: rollouts drawn so far and the one in use, when a checkpoint falls between its optimizer steps. */
  rolloutsDrawn?: number;
  rollout?: unknown;
  /** GRPO: the rollout drawn ahead, or that it was still being drawn (by trainer/sampler/). */
  ahead?: unknown;
  aheadPending?: boolean;
  /** GRPO: where in the run the policy was that draws it. */
  aheadAt?: Version;
  /** GRPO: the weights that syncWeights handed over last (trainer/synced/, where the next rollout is still drawn by them). */
  synced?: Version;
  /** GRPO: the step at which the reference (trainer/reference/) became the policy. */
  syncedAt?: number;
  /** Steps left out so far because something was not finite, and how many of them in a row. */
  skipped?: { total: number; inRow: number };
  /** The best evaluation so far. */
  best?: Best;
  /** The evaluation after this step was due and did not come to its end. */
  evaluationDue?: boolean;
  /** The prompts that samples.jsonl follows, and how many lines that has cost. */
  sampleLog?: unknown;
  /** GRPO: what reward functions remember (a normalised reward model's statistics), in their order. */
  rewards?: unknown[];
}

export interface Best {
  step: number;
  metric: string;
  value: number;
}

/** What is on disk: every file's size and SHA-256 beside the state, all of it covered by the state's own checksum. */
type StoredState = TrainerCheckpoint & { files?: Record<string, { bytes: number; sha256: string }> };

const nameOf = (step: number) => `checkpoint-${step}`;

/** Checkpoints in a run folder, newest first. Half-written ones (.part) have other names and do not count. */
export function listCheckpoints(outputDir: string): { step: number; folder: string }[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir)
    .flatMap((name) => {
      const match = /^checkpoint-(\d+)$/.exec(name);
      return match ? [{ step: Number(match[1]), folder: join(outputDir, name) }] : [];
    })
    .filter(({ folder }) => existsSync(join(folder, 'trainer', 'state.json')))
    .sort((a, b) => b.step - a.step);
}

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex');

function filesIn(folder: string, below = folder): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesIn(path, below) : [relative(below, path)];
  });
}

/** In pieces, so that the event loop goes on. */
async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 22 }), hash);
  return hash.digest('hex');
}

async function digests(folder: string): Promise<StoredState['files']> {
  const files: StoredState['files'] = {};
  for (const name of filesIn(folder)) {
    const path = join(folder, name);
    files[name] = { bytes: statSync(path).size, sha256: await digestOfFile(path) };
  }
  return files;
}

/** Writes a checkpoint atomically and removes the oldest ones beyond `keep`, but not the best one. `more` adds files of the trainer's own. */
export async function saveCheckpoint(
  outputDir: string,
  model: SavedModel,
  training: Training,
  state: TrainerCheckpoint,
  keep: number,
  more?: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(outputDir, nameOf(state.step));
  await writeFolderAtomic(folder, async (part) => {
    await model.save(part);
    makeFolder(join(part, 'trainer'));
    await training.saveOptimizer(join(part, 'trainer', 'optimizer.safetensors'));
    await more?.(join(part, 'trainer'));
    const text = JSON.stringify({ ...state, files: await digests(part) });
    writeFileAtomic(join(part, 'trainer', 'state.json'), JSON.stringify({ sha256: digestOf(text), state: text }));
  });
  for (const old of listCheckpoints(outputDir).slice(keep))
    if (old.step !== state.best?.step) rmSync(old.folder, { recursive: true, force: true });
  return folder;
}

const damaged = (folder: string, path: string, cause: unknown) =>
  new FusedGrpoError('ERR_IO', `Cannot resume from ${folder}: ${path} is unreadable (${(cause as Error).message})`, { cause });

function readState(folder: string): StoredState {
  const path = join(folder, 'trainer', 'state.json');
  try {
    const { sha256, state } = JSON.parse(readFileSync(path, 'utf8')) as { sha256: string; state: string };
    if (digestOf(state) !== sha256) throw new Error('its checksum does not match');
    return JSON.parse(state) as StoredState;
  } catch (cause) {
    throw damaged(folder, path, cause);
  }
}

/** Throws an error that names the file when anything of the checkpoint is missing, cut off or changed. */
export async function verifyCheckpoint(folder: string): Promise<void> {
  for (const [name, { bytes, sha256 }] of Object.entries(readState(folder).files ?? {})) {
    const path = join(folder, name);
    try {
      const size = statSync(path).size;
      if (size !== bytes) throw new Error(`it has ${size} bytes instead of ${bytes}`);
      if ((await digestOfFile(path)) !== sha256) throw new Error('its checksum does not match');
    } catch (cause) {
      throw damaged(folder, path, cause);
    }
  }
}

/** The newest whole checkpoint of a run folder. A damaged one is told and passed over; when there is no other, it is an error. */
async function newestWhole(outputDir: string): Promise<string | undefined> {
  let first: Error | undefined;
  for (const { folder } of listCheckpoints(outputDir)) {
    try {
      await verifyCheckpoint(folder);
      if (first) process.emitWarning(`${first.message}; going on from ${folder} instead`, 'FusedGrpoWarning');
      return folder;
    } catch (error) {
      first ??= error as Error;
    }
  }
  if (first) throw first; // starting over would silently throw away what may be saved by hand
  return undefined;
}

/** The folder that `resume` names, verified, or undefined when it is 'auto' and there is none. */
export async function findResume(resume: string | undefined, outputDir: string | undefined): Promise<string | undefined> {
  if (resume === undefined) return undefined;
  if (resume === 'auto') return outputDir === undefined ? undefined : newestWhole(outputDir);
  if (!existsSync(join(resume, 'trainer', 'state.json'))) {
    const newest = await newestWhole(resume);
    if (newest !== undefined) return newest;
    throw new FusedGrpoError(
      'ERR_DATA',
      `resume: ${resume} is neither 'auto', a checkpoint (it has no trainer/state.json) nor a run folder that holds one`,
    );
  }
  await verifyCheckpoint(resume);
  return resume;
}

/** Reads a checkpoint's state, checks that it belongs to this kind of run, and loads the optimizer's moments. */
export async function loadCheckpoint(
  folder: string,
  training: Training,
  trainer: TrainerKind,
  settings: Record<string, unknown>,
): Promise<TrainerCheckpoint> {
  const state = readState(folder);
  if (state.trainer !== trainer)
    throw new FusedGrpoError('ERR_DATA', `Cannot resume: ${folder} was written by the ${state.trainer} trainer`);
  for (const key of Object.keys({ ...state.settings, ...settings })) {
    const [was, is] = [JSON.stringify(state.settings[key]), JSON.stringify(settings[key])];
    if (was !== is) throw new FusedGrpoError('ERR_INCOMPATIBLE_OPTIONS', `Cannot resume from ${folder}: ${describeChange(key, was, is)}`);
  }
  await training.loadOptimizer(join(folder, 'trainer', 'optimizer.safetensors'));
  return state;
}
