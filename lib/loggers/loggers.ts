// Calls a run's loggers so that none of them can harm the run.
import { join } from 'node:path';
import { incompatible, invalidType } from '../errors.js';
import { TensorBoardLogger } from './tensorboard.js';
import type { Logger, RunEnd, RunStart } from './types.js';

const PATIENCE_MS = 10_000;

/** Checks what a caller gave as `loggers`. @throws TypeError naming the entry */
function checkLoggers(loggers: unknown): Logger[] {
  if (loggers === undefined) return [];
  if (!Array.isArray(loggers)) throw invalidType('loggers', 'an array of loggers', loggers);
  loggers.forEach((logger: Partial<Logger> | null, i) => {
    if (logger === null || typeof logger !== 'object') throw invalidType(`loggers[${i}]`, 'an object with onStep(metrics, step)', logger);
    for (const name of ['onRunStart', 'onStep', 'onRunEnd', 'close'] as const)
      if (typeof logger[name] !== 'function' && (name === 'onStep' || logger[name] !== undefined))
        throw invalidType(`loggers[${i}].${name}`, 'a function', logger[name]);
  });
  return loggers as Logger[];
}

function hurried(work: void | Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it has not settled within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
    Promise.resolve(work)
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}

export class Loggers {
  private readonly warned = new Set<Logger>();
  private readonly hung = new Set<Logger>();
  constructor(private readonly all: readonly Logger[]) {}

  start(run: RunStart): Promise<void> {
    return this.each((logger) => logger.onRunStart?.(run));
  }

  step(metrics: object, step: number): Promise<void> {
    return this.each((logger) => logger.onStep(metrics as Record<string, unknown>, step));
  }

  async end(end: RunEnd): Promise<void> {
    await this.each((logger) => logger.onRunEnd?.(end));
    await this.each((logger) => logger.close?.());
  }

  /** One after the other, each on its own: what one does wrong is its own affair. */
  private async each(call: (logger: Logger) => void | Promise<void>): Promise<void> {
    for (const logger of this.all) {
      if (this.hung.has(logger)) continue;
      try {
        const work = call(logger);
        if (work !== undefined) await hurried(work);
      } catch (error) {
        this.warn(logger, error);
      }
    }
  }

  private warn(logger: Logger, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (message.startsWith('it has not settled')) this.hung.add(logger);
    if (this.warned.has(logger)) return;
    this.warned.add(logger);
    const name = logger.name ?? logger.constructor?.name ?? 'logger';
    process.emitWarning(`The logger ${name} failed and the run goes on without what it missed: ${message}`, 'FusedGrpoWarning');
  }
}

/** A run's loggers: the one that reportTo asks for, and the caller's. @throws TypeError */
export function loggersOf({ reportTo, outputDir }: { reportTo?: string; outputDir?: string }, given: unknown): Loggers {
  const own = checkLoggers(given);
  if (reportTo !== 'tensorboard') return new Loggers(own);
  if (outputDir === undefined) throw incompatible("reportTo: 'tensorboard' needs outputDir");
  return new Loggers([new TensorBoardLogger(join(outputDir, 'tensorboard')), ...own]);
}
