// What `train` and `sft` share: the loop with progress, Ctrl-C, and the report that is written however the run ends.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAdapterFolder } from '../engine/adapter-folder.js';
import { FusedGrpoError } from '../errors.js';
import { writeRunReport } from '../report/run-folder.js';
import { Watch } from '../report/warnings.js';
import type { CliContext, TrainerLike } from './context.js';
import { EXIT, exitCodeOf } from './errors.js';
import { processes } from './ranks.js';
import { Progress } from './progress.js';

/** Runs `work` with a signal that the first Ctrl-C (or SIGTERM) aborts; the second exits at once. */
export async function interruptible<T>(ctx: CliContext, progress: Progress, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const undo = ctx.onInterrupt(() => {
    if (controller.signal.aborted) {
      progress.end();
      return ctx.exitNow(EXIT.interrupted);
    }
    const missing = ctx.missingRank?.();
    progress.log(missing ? `${missing}: stopping …` : 'Stopping and saving … (Ctrl-C again: exit at once, without saving)');
    controller.abort(missing ? new FusedGrpoError('ERR_RANK_LOST', missing) : new FusedGrpoError('ERR_ABORTED', 'The run was interrupted'));
  });
  try {
    return await work(controller.signal);
  } finally {
    undo();
  }
}

export interface TrainingJob<Step extends { step: number }> {
  label: string;
  title: string;
  /** Absolute; undefined: nothing is written. */
  output: string;
  make: (signal: AbortSignal) => TrainerLike<Step>;
  fields: (step: Step) => string[];
  /** What the curve in the progress line shows: the reward, or the loss. */
  trend: (step: Step) => number;
  /** The run's last words, from its last step. */
  summary: (last: Step | undefined) => Record<string, unknown>;
  json: boolean;
}

function report(job: { output: string; title: string }, ctx: CliContext, warnings: string[]): string | undefined {
  if (ctx.otherRank !== undefined || !existsSync(join(job.output, 'metrics.jsonl'))) return undefined;
  try {
    return writeRunReport(job.output, { title: job.title, warnings });
  } catch (error) {
    ctx.stderr.write(`The report could not be written: ${(error as Error).message}\n`); // the run itself counts
    return undefined;
  }
}

/** How a run ended that did not come to its end, and what is left of it. */
function stopped(how: string, made: number, saved: number, output: string): string {
  if (made > saved)
    return `${how} after step ${made}; ${saved ? `the newest checkpoint is of step ${saved}` : 'there is no checkpoint'}: ${output}\n`;
  return saved ? `${how}; what was done is saved: ${output}\n` : `${how} before the first step: nothing was saved\n`;
}

function finish<Step extends { step: number }>(
  job: TrainingJob<Step>,
  ctx: CliContext,
  state: string,
  last: Step | undefined,
  reportFile: string | undefined,
  saved = last?.step,
): void {
  if (state === 'ok') ctx.stderr.write(`${last ? 'Done' : 'Nothing was left to do; the run is finished'}: ${job.output}\n`);
  else ctx.stderr.write(stopped(state === 'interrupted' ? 'Interrupted' : 'Stopped', last?.step ?? 0, saved ?? 0, job.output));
  const model = join(job.output, 'model');
  if (state === 'ok' && isAdapterFolder(model))
    ctx.stderr.write(`The model is a LoRA adapter: ${model}\nA whole model: npx fused-grpo merge --adapter ${model} --output NEW_FOLDER\n`);
  if (reportFile) ctx.stderr.write(`Report: ${reportFile}\n`);
  if (state !== 'ok' && saved) ctx.stderr.write('To go on: the same command with --resume auto\n');
  if (job.json)
    ctx.stdout.write(JSON.stringify({ status: state, output: job.output, report: reportFile ?? null, ...job.summary(last) }) + '\n');
}

/** Says where a resumed run goes on; warnings about its earlier steps are not said again. */
function goingOn(output: string, after: number, watch: Watch, progress: Progress): void {
  progress.log(`Going on after step ${after}`);
  try {
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    watch.recall(lines.map((line) => JSON.parse(line) as { step: number }).filter(({ step }) => step <= after));
  } catch {
    // without its log the run goes on all the same
  }
}

/** Trains to the end, an interrupt or an error; errors are thrown on after the report is written. Returns the exit code. */
export async function runTraining<Step extends { step: number; metrics: { step: number } }>(
  job: TrainingJob<Step>,
  ctx: CliContext,
): Promise<number> {
  let trainer: TrainerLike<Step> | undefined;
  let last: Step | undefined;
  const watch = new Watch();
  const count = processes(ctx.env);
  const progress = new Progress(ctx, { label: job.label, total: () => trainer?.totalSteps ?? 0 });
  try {
    await interruptible(ctx, progress, async (signal) => {
      trainer = job.make(signal);
      if (count > 1) progress.log(`Training in ${count} processes`);
      for await (const step of trainer) {
        if (!last && step.step > 1) goingOn(job.output, step.step - 1, watch, progress);
        last = step;
        for (const warning of watch.add(step.metrics)) progress.log(`Warning, step ${step.step}: ${warning}`);
        progress.update(step.step, job.fields(step), job.trend(step));
      }
      // A trainer that ends quietly when aborted has still been interrupted.
      signal.throwIfAborted();
    });
  } catch (error) {
    progress.end();
    const interrupted = exitCodeOf(error) === EXIT.interrupted;
    const note = interrupted ? `Interrupted${last ? ` after step ${last.step}` : ''}.` : `The run failed: ${(error as Error).message}`;
    // Without a step of this run there is nothing to report on: a run that was in the folder before stays as it is.
    const file = last ? report(job, ctx, [note]) : undefined;
    if (interrupted || last) finish(job, ctx, interrupted ? 'interrupted' : 'failed', last, file, trainer?.savedStep);
    throw error;
  } finally {
    progress.end();
    trainer?.dispose?.();
  }
  finish(job, ctx, 'ok', last, report(job, ctx, []));
  return EXIT.ok;
}
