// The files of a run's folder besides checkpoints and model: config.json and the logs.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { lockFolder, unlockFolder } from './run-lock.js';
import { appendJsonLine, makeFolder, writeFileAtomic } from './files.js';

const SAMPLED_STEPS = 50;

/** A line of samples.jsonl. */
export interface LoggedSamples {
  step: number;
  samples: unknown;
  groups?: unknown;
}

export class RunFolder {
  private locked = false;

  constructor(private config: { outputDir?: string; resume?: string }) {}

  /** Of another rank than the first: it writes nothing. */
  onlyRead(): void {
    this.config = {};
  }

  /** Makes the folder and writes config.json. A folder that holds a run is refused unless this one continues it. */
  open(described: object, resumed: boolean): void {
    const { outputDir, resume } = this.config;
    if (outputDir === undefined) return;
    makeFolder(outputDir);
    this.lock();
    // A run that ended before its first checkpoint is continued from its beginning.
    if (!resumed && resume === 'auto') {
      if (existsSync(join(outputDir, 'metrics.jsonl')))
        process.emitWarning(`${outputDir} has a run without a checkpoint: it begins anew`, 'FusedGrpoWarning');
      this.truncate(0);
    }
    if (!resumed && resume !== 'auto' && existsSync(join(outputDir, 'metrics.jsonl'))) {
      this.unlock();
      throw new FusedGrpoError('ERR_DATA', `${outputDir} already holds a run; give another outputDir, or resume: 'auto' to continue it`);
    }
    writeFileAtomic(join(outputDir, 'config.json'), JSON.stringify(described, null, 2) + '\n');
  }

  /** While a loop runs nobody else may write here. */
  lock(): void {
    if (this.config.outputDir === undefined || this.locked) return;
    lockFolder(this.config.outputDir);
    this.locked = true;
  }
  unlock(): void {
    if (this.locked) unlockFolder(this.config.outputDir!);
    this.locked = false;
  }

  /** After a crash the logs may be ahead of the checkpoint: the steps to be repeated are taken out. */
  truncate(step: number): void {
    const { outputDir } = this.config;
    if (outputDir === undefined) return;
    for (const name of ['metrics.jsonl', 'samples.jsonl']) {
      const path = join(outputDir, name);
      if (!existsSync(path)) continue;
      const kept = readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => {
          try {
            return (JSON.parse(line) as { step: number }).step <= step;
          } catch {
            return false; // the empty end, or a line cut off by the crash
          }
        });
      writeFileAtomic(path, kept.map((line) => line + '\n').join(''));
    }
  }

  /** Adds values to the line of step `step` in metrics.jsonl, which has been written already. */
  amend(step: number, values: object): void {
    const { outputDir } = this.config;
    if (outputDir === undefined) return;
    const path = join(outputDir, 'metrics.jsonl');
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    const amended = lines.map((line) => {
      const metrics = JSON.parse(line) as { step: number };
      return metrics.step === step ? JSON.stringify({ ...metrics, ...values }) : line;
    });
    writeFileAtomic(path, amended.map((line) => line + '\n').join(''));
  }

  /** Appends to the logs. Samples are thinned out so that long runs stay readable, unless they are wanted `always`. */
  log(metrics: { step: number }, samples: LoggedSamples | undefined, at: { step: number; totalSteps: number; always: boolean }): void {
    const { outputDir } = this.config;
    if (outputDir === undefined) return;
    appendJsonLine(join(outputDir, 'metrics.jsonl'), metrics);
    const every = Math.max(1, Math.floor(at.totalSteps / SAMPLED_STEPS));
    const due = at.always || at.step < 5 || at.step % every === 0 || at.step === at.totalSteps;
    if (samples && due) appendJsonLine(join(outputDir, 'samples.jsonl'), samples);
  }
}
