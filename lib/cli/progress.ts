// Progress on stderr: one line that is redrawn on a terminal, plain lines at a bounded rate elsewhere.
import type { CliContext, Output } from './context.js';
import { sparkline } from './sparkline.js';

const HIDE = '\x1b[?25l';
const SHOW = '\x1b[?25h';
const REDRAW_MS = 80;
const PLAIN_MS = 10_000;
const SPARKS = 12;
const PARTS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** 75 -> "1:15"; unknown -> "-:--". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '-:--';
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

/** Four significant digits at most, for people. */
export function short(value: number | undefined | null): string {
  if (value === undefined || value === null || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(size >= 0.1 ? 2 : 4);
}

function bar(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const full = '█'.repeat(Math.floor(eighths / 8));
  return (full + PARTS[eighths % 8]!).padEnd(width, '░');
}

export interface ProgressOptions {
  label: string;
  /** May become known only after the first step: read at every update. */
  total: () => number;
  /** What is counted; default step. */
  unit?: string;
}

export class Progress {
  private readonly live: boolean;
  private readonly colour: boolean;
  private readonly out: Output;
  private last = -Infinity;
  private readonly begun: number;
  /** The first update: loading the model must not count into the rate, nor steps of an earlier process. */
  private first?: { done: number; at: number };
  private hidden = false;
  private shown = false;
  private plainTenth = -1;
  /** What the sparkline shows. */
  private readonly trend: number[] = [];

  constructor(
    private readonly ctx: Pick<CliContext, 'stderr' | 'env' | 'now'>,
    private readonly options: ProgressOptions,
  ) {
    this.out = ctx.stderr;
    this.live = Boolean(ctx.stderr.isTTY) && ctx.env.TERM !== 'dumb';
    this.colour = this.live && !ctx.env.NO_COLOR;
    this.begun = ctx.now();
  }

  /**
   * Shows that `done` of the total are done; `fields` are short texts, the most telling first (narrow terminals cut the rest). The curve of
   * `value` over all updates stands behind the first field of a terminal's line.
   */
  update(done: number, fields: readonly string[] = [], value?: number): void {
    const now = this.ctx.now();
    if (value !== undefined && this.live) this.trend.push(value);
    this.first ??= { done, at: now };
    const total = this.options.total();
    const tenth = total > 0 ? Math.floor((done / total) * 10) : -1;
    const final = total > 0 && done >= total;
    const due = this.live ? now - this.last >= REDRAW_MS : now - this.last >= PLAIN_MS || tenth !== this.plainTenth;
    if (!due && !final) return;
    this.last = now;
    this.plainTenth = tenth;
    const { first } = this;
    const seconds = (done > first.done ? (now - first.at) / (done - first.done) : now - this.begun) / 1000;
    const left = seconds * Math.max(0, total - done);
    if (this.live) this.draw(this.liveLine(done, total, fields, seconds, left));
    else
      this.out.write(
        `${this.options.label} ${done}/${total || '?'} ${fields.join(' ')} ${short(seconds)} s/${this.options.unit ?? 'step'} ${duration(left)} left\n`,
      );
  }

  /** A message above the bar. */
  log(text: string): void {
    this.clear();
    this.out.write(text + '\n');
  }

  /** Takes the bar's line away for good and gives the cursor back. Safe to call more than once. */
  end(): void {
    if (this.shown) this.out.write('\n');
    this.shown = false;
    if (this.hidden) this.out.write(SHOW);
    this.hidden = false;
    process.off('exit', this.restore);
  }

  private readonly restore = (): void => this.end();

  private clear(): void {
    if (this.shown) this.out.write('\r\x1b[K');
    this.shown = false;
  }

  private liveLine(done: number, total: number, fields: readonly string[], seconds: number, left: number): string {
    const columns = Math.max(10, (this.out.columns ?? 80) - 1);
    const count = `${done}/${total || '?'}`;
    const curve = sparkline(this.trend, SPARKS);
    const told = curve && fields.length > 0 ? [fields[0]!, curve, ...fields.slice(1)] : fields;
    const parts = [this.options.label, count, ...told, `${short(seconds)} s/${this.options.unit ?? 'step'}`, `${duration(left)} left`];
    // What matters most stays: count and first field; then time left; then the rest; the bar takes what is over.
    const order = [1, 2, parts.length - 1, 0, ...parts.map((_, i) => i).filter((i) => i > 2 && i < parts.length - 1)];
    const kept = new Set<number>();
    let used = 0;
    for (const i of order) {
      if (parts[i] === undefined || kept.has(i) || used + parts[i].length + 2 > columns) continue;
      kept.add(i);
      used += parts[i].length + 2;
    }
    const texts = parts.filter((_, i) => kept.has(i));
    const room = Math.min(30, columns - used - 2);
    if (room >= 6 && total > 0) texts.splice(kept.has(0) ? 1 : 0, 0, this.paint(bar(done / total, room)));
    return texts.join('  ');
  }

  private paint(text: string): string {
    return this.colour ? `\x1b[36m${text}\x1b[39m` : text;
  }

  private draw(line: string): void {
    if (!this.hidden) {
      this.hidden = true;
      this.out.write(HIDE);
      process.on('exit', this.restore); // the second Ctrl-C exits from anywhere: the cursor must come back
    }
    this.out.write(`\r${line}\x1b[K`);
    this.shown = true;
  }
}
