// What the ranks of a run compare before they train.
import { packageVersion } from '../capabilities.js';
import { agree } from '../distributed/agree.js';
import type { Ranks } from '../distributed/ranks.js';
import { settle } from '../engine/call.js';
import type { NativeTraining } from '../engine/training.js';
import type { Cursor, Dataset, RowSource } from './dataset.js';
import type { RunOptions, TrainedModel } from './run-types.js';

/** Of a model's weights, for a message. */
const digestOf = async (model: { native: NativeTraining }) => `weights ${await settle(() => model.native.digest())}`;

/** Paths may differ from machine to machine. */
export function agreeOnOptions<M extends TrainedModel>(ranks: Ranks, { config, kind, trainedOn }: RunOptions<M>): Promise<void> {
  const { outputDir: _folder, resume: _from, ...same } = config;
  return agree(ranks, { 'the version of fused-grpo': packageVersion(), 'the trainer': kind, ...trainedOn, ...same });
}

export function agreeOnData(ranks: Ranks, dataset: Dataset, source: RowSource, totalSteps: number): Promise<void> {
  const called = typeof dataset === 'string' ? dataset : 'in memory';
  return agree(ranks, { 'the data set': source.digest?.(), 'the number of steps': totalSteps }, { 'the data set': called });
}

export async function agreeOnModel(ranks: Ranks, model: TrainedModel): Promise<void> {
  if (ranks.worldSize > 1) await agree(ranks, { 'the model': await digestOf(model) }, { 'the model': model.path });
}

/** Ranks that take up their loops again: whatever ended them may have ended them at different places. */
export async function agreeOnPlace(ranks: Ranks, model: TrainedModel, step: number, cursor: Cursor): Promise<void> {
  if (ranks.worldSize === 1) return;
  await agree(ranks, { 'the last step': step, 'the place in the data set': cursor, 'the model': await digestOf(model) });
}
