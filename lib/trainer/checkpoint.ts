// Resumable checkpoints: outputDir/checkpoint-<step>/ is a Hugging Face folder plus trainer/ with what training needs to go on.
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import type { Training } from '../engine/training.js';
import { makeFolder, writeFileAtomic, writeFolderAtomic } from './files.js';
import type { Cursor } from './dataset.js';

export type TrainerKind = 'grpo' | 'sft' | 'reward';

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
  /** GRPO: what reward functions remember (a normalised reward model's statistics), in their order. */
  rewards?: unknown[];
}

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

/** Writes a checkpoint atomically and removes the oldest ones beyond `keep`. */
export async function saveCheckpoint(
  outputDir: string,
  model: SavedModel,
  training: Training,
  state: TrainerCheckpoint,
  keep: number,
): Promise<string> {
  const folder = join(outputDir, nameOf(state.step));
  await writeFolderAtomic(folder, async (part) => {
    await model.save(part);
    makeFolder(join(part, 'trainer'));
    await training.saveOptimizer(join(part, 'trainer', 'optimizer.safetensors'));
    const text = JSON.stringify(state);
    writeFileAtomic(join(part, 'trainer', 'state.json'), JSON.stringify({ sha256: digestOf(text), state: text }));
  });
  for (const { folder: old } of listCheckpoints(outputDir).slice(keep)) rmSync(old, { recursive: true, force: true });
  return folder;
}

function readState(folder: string): TrainerCheckpoint {
  const path = join(folder, 'trainer', 'state.json');
  try {
    const { sha256, state } = JSON.parse(readFileSync(path, 'utf8')) as { sha256: string; state: string };
    if (digestOf(state) !== sha256) throw new Error('its checksum does not match');
    return JSON.parse(state) as TrainerCheckpoint;
  } catch (cause) {
    throw new FusedGrpoError('ERR_IO', `Cannot resume from ${folder}: ${path} is unreadable (${(cause as Error).message})`, { cause });
  }
}

/** The folder that `resume` names, or undefined when it is 'auto' and there is none. */
export function findResume(resume: string | undefined, outputDir: string | undefined): string | undefined {
  if (resume === undefined) return undefined;
  if (resume === 'auto') return outputDir === undefined ? undefined : listCheckpoints(outputDir)[0]?.folder;
  if (!existsSync(join(resume, 'trainer', 'state.json'))) {
    const newest = listCheckpoints(resume)[0];
    if (newest) return newest.folder;
    throw new FusedGrpoError(
      'ERR_DATA',
      `resume: ${resume} is neither 'auto', a checkpoint (it has no trainer/state.json) nor a run folder that holds one`,
    );
  }
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
    if (was !== is)
      throw new FusedGrpoError(
        'ERR_INCOMPATIBLE_OPTIONS',
        `Cannot resume from ${folder}: ${key} was ${was ?? 'not set'} and is now ${is ?? 'not set'}`,
      );
  }
  await training.loadOptimizer(join(folder, 'trainer', 'optimizer.safetensors'));
  return state;
}
