// `npm run demo` and `npx fused-grpo demo`: the lesson, shown to a person.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { CliContext } from '../cli/context.js';
import { Progress } from '../cli/progress.js';
import { writeRunReport } from '../report/run-folder.js';
import { lessonConfig, demoModel, teach, type LessonResult, type LessonRow } from './lesson.js';

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** A folder for this run: the one asked for, emptied when it holds an earlier demo and nothing else is lost by it. */
function clearEarlierDemo(output: string): void {
  if (!existsSync(output)) return;
  const ours = /^(metrics\.jsonl|samples\.jsonl|config\.json|report\.html|model|checkpoint-\d+|.*\.part)$/;
  const names = readdirSync(output);
  if (names.every((name) => ours.test(name))) for (const name of names) rmSync(join(output, name), { recursive: true });
}

function table(rows: LessonRow[]): string {
  const mark = (row: LessonRow, text: string) => `${text || '(nothing)'} ${text === row.answer ? '✓' : '✗'}`;
  const lines = [['problem', 'answer', 'before', 'after'], ...rows.map((r) => [r.problem, r.answer, mark(r, r.before), mark(r, r.after)])];
  const widths = [0, 1, 2, 3].map((c) => Math.max(...lines.map((l) => l[c]!.length)));
  return lines
    .map(
      (l) =>
        '  ' +
        l
          .map((text, c) => text.padEnd(widths[c]! + 2))
          .join('')
          .trimEnd(),
    )
    .join('\n');
}

function lastWords(result: LessonResult, output: string, report: string, ctx: CliContext): string {
  const at = (path: string) => relative(ctx.cwd, path) || '.';
  return `
Held-out problems answered correctly (greedy, ${result.heldOut} problems never trained on):
  before ${percent(result.accuracyBefore)}   after ${percent(result.accuracyAfter)}   (${result.steps} steps, ${result.trainSeconds.toFixed(0)} s of training)

Some of them, chosen to show what changed (mostly mended ones):
${table(result.rows)}

Report:  ${at(report)}
Model:   ${at(join(output, 'model'))}

Next:
  npx fused-grpo generate --model ${at(join(output, 'model'))} --prompt "12+34="
  npx fused-grpo train --help
`;
}

export async function runDemo(
  options: { output: string; maxSteps?: number; seed?: number; json: boolean; signal: AbortSignal },
  ctx: CliContext,
): Promise<number> {
  const { output, json } = options;
  clearEarlierDemo(output);
  let total = options.maxSteps ?? lessonConfig.maxSteps!;
  const progress = new Progress(ctx, { label: 'GRPO', total: () => total });
  try {
    const result = await teach({
      outputDir: output,
      maxSteps: options.maxSteps,
      seed: options.seed,
      signal: options.signal,
      onPhase: (text) => progress.log(`${text} ...`),
      onStep: ({ step, metrics }, totalSteps) => {
        total = totalSteps;
        const speed = `${(metrics.tokensPerSecond / 1000).toFixed(1)}k tok/s`;
        progress.update(step, [`reward ${metrics.reward.toFixed(3)}`, `entropy ${metrics.entropy.toFixed(2)}`, speed], metrics.reward);
      },
    });
    progress.end();
    const rows = result.rows.map((r) => ({
      prompt: r.problem,
      expected: r.answer,
      before: r.before,
      after: r.after,
      beforeCorrect: r.before === r.answer,
      afterCorrect: r.after === r.answer,
    }));
    const report = writeRunReport(output, {
      title: 'GRPO demo: learning to add from right and wrong',
      beforeAfter: { label: 'held-out accuracy', beforeScore: result.accuracyBefore, afterScore: result.accuracyAfter, rows },
    });
    if (json) ctx.stdout.write(JSON.stringify({ status: 'ok', output, report, model: demoModel(), ...result }) + '\n');
    else ctx.stdout.write(lastWords(result, output, report, ctx));
    return 0;
  } finally {
    progress.end();
  }
}
