// The CUDA kernels on a card, by the program of `npm run gpu:check`: timed by CUDA events on matrices that no cache holds, beside a copy on the
// card and, where Python has them, torch and Liger-Kernel.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FusedGrpoError } from '../errors.js';
import { packageRoot } from '../native.js';
import type { BenchContext, CaseResult, Row } from './measure.js';

/** A line of the program's file: of our kernels, or of another project at the same shape. */
type Line = { what: string; device: string; dtype: string; vocab: number; rows: number } & (
  { copy_ms: number; grpo_ms: number; logp_ms: number } | { ms: number }
);

/** Why there is nothing to measure on this machine, or undefined. */
export function cudaSkipped(exists: (path: string) => boolean = existsSync): string | undefined {
  if (!exists('/dev/nvidiactl')) return 'no NVIDIA driver on this machine';
  if (!exists(join(packageRoot, 'test/gpu/bench.cc'))) return 'the benchmark of the kernels is in the repository, not in the package';
  return undefined;
}

/** Rows of the program's lines; each ratio is to the copy of its own shape. */
export function cudaRows(lines: readonly Line[]): Row[] {
  const shapeOf = (l: Line): string => `${l.dtype}, ${l.rows} x ${l.vocab}`;
  const copies = new Map(lines.flatMap((l) => ('copy_ms' in l ? [[shapeOf(l), l.copy_ms] as const] : [])));
  const row = (name: string, l: Line, ms: number, share?: number): Row => ({
    name: `${name}, ${shapeOf(l)}`,
    seconds: { median: ms / 1e3, min: ms / 1e3, spread: 0, rounds: 20 },
    perBaseline: ms / copies.get(shapeOf(l))!,
    bandwidthShare: share,
  });
  return lines.flatMap((l) =>
    'copy_ms' in l
      ? [
          row('copy', l, l.copy_ms),
          row('grpoLoss, fused', l, l.grpo_ms, l.copy_ms / l.grpo_ms),
          row('selectiveLogp', l, l.logp_ms, l.copy_ms / 2 / l.logp_ms),
        ]
      : copies.has(shapeOf(l))
        ? [row(l.what, l, l.ms)]
        : [],
  );
}

export async function cudaCase(context: BenchContext): Promise<CaseResult> {
  const folder = mkdtempSync(join(tmpdir(), 'fused-grpo-cuda-'));
  try {
    const output = await new Promise<string>((done) =>
      execFile(
        'bash',
        ['scripts/gpu-check.sh', 'bench'],
        { cwd: packageRoot, env: { ...process.env, OUT: folder }, signal: context.signal, maxBuffer: 1 << 26 },
        (_error, out, err) => done(out + err), // its file says what was measured, however it ended
      ),
    );
    context.signal?.throwIfAborted();
    const file = join(folder, 'bench.jsonl');
    const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').filter(Boolean) : [];
    if (lines.length === 0)
      throw new FusedGrpoError('ERR_CUDA', `The benchmark of the CUDA kernels measured nothing:\n${output.slice(-2000)}`);
    const parsed = lines.map((l) => JSON.parse(l) as Line);
    return { case: 'cuda', label: parsed[0]!.device, baseline: 'copy', rows: cudaRows(parsed) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
