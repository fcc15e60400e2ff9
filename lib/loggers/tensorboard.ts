// reportTo: 'tensorboard'. No npm package writes these files that is kept up; the format is small (tfrecord.ts).
import { appendFileSync, mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { restartRecord, scalarsRecord, versionRecord } from './tfrecord.js';
import type { Logger, RunStart } from './types.js';

/** Numbers of a step as tags: `train/reward`, and `clipRatio/low` for what is nested. */
export function scalarsOf(metrics: Readonly<Record<string, unknown>>): Record<string, number> {
  const scalars: Record<string, number> = {};
  const visit = (value: unknown, path: string[]) => {
    if (typeof value === 'number') scalars[path.length === 1 ? `train/${path[0]}` : path.join('/')] = value;
    else if (value !== null && typeof value === 'object' && !Array.isArray(value))
      for (const [name, inner] of Object.entries(value)) visit(inner, [...path, name]);
  };
  for (const [name, value] of Object.entries(metrics)) if (name !== 'step') visit(value, [name]);
  return scalars;
}

let files = 0;

/** Writes event files into `folder`, one for each time that the run is started or continued: `tensorboard --logdir runs`. */
export class TensorBoardLogger implements Logger {
  readonly name = 'tensorboard';
  private file?: string;

  /** @param now seconds since 1970, for tests */
  constructor(
    private readonly folder: string,
    private readonly now: () => number = () => Date.now() / 1000,
  ) {}

  /** See Logger. */
  onRunStart({ step }: Pick<RunStart, 'step'>): void {
    mkdirSync(this.folder, { recursive: true });
    const time = this.now();
    this.file = join(this.folder, `events.out.tfevents.${Math.floor(time)}.${hostname()}.${process.pid}.${files++}`);
    appendFileSync(this.file, versionRecord(time));
    if (step > 0) appendFileSync(this.file, restartRecord(time, step + 1));
  }

  onStep(metrics: Readonly<Record<string, unknown>>, step: number): void {
    if (this.file === undefined) this.onRunStart({ step: 0 });
    appendFileSync(this.file!, scalarsRecord(this.now(), step, scalarsOf(metrics)));
  }
}
