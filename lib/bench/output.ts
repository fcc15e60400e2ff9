// What a run of the suite leaves behind: results.json, results.md and index.html, all made from the same numbers; and their comparison.
import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { FusedGrpoError } from '../errors.js';
import { capabilities } from '../capabilities.js';
import { escape } from '../report/html.js';
import { page } from '../report/page.js';
import type { CaseResult, Row } from './measure.js';

export interface Results {
  format: 1;
  date: string;
  machine: { cpu: string; cores: number; memoryBytes: number; simd?: string; threads?: number };
  /** `peers`: of the Python that ran them. */
  versions: { fusedGrpo: string; torch?: string; node: string; peers?: Readonly<Record<string, string>> };
  cases: CaseResult[];
}

export function resultsOf(cases: CaseResult[], peers?: Readonly<Record<string, string>>): Results {
  const caps = capabilities();
  return {
    format: 1,
    date: new Date().toISOString(),
    machine: {
      ...{ cpu: cpus()[0]?.model.trim() ?? 'unknown', cores: cpus().length, memoryBytes: totalmem() },
      ...{ simd: caps.simd ?? undefined, threads: caps.threads ?? undefined },
    },
    versions: { fusedGrpo: caps.version, torch: caps.torchVersion ?? undefined, node: process.version, peers },
    cases,
  };
}

export function milliseconds(seconds: number): string {
  const ms = seconds * 1000;
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms >= 0.1 ? ms.toFixed(2) : ms.toPrecision(2);
}

const HEADER = ['', 'ms (median)', 'spread', 'x baseline', 'share of copy bandwidth', 'error to fp64', 'tokens/s', 'memory, MiB'];
const DIFFERENCE = 'difference to ours';

/** The columns of a row, as text. */
export function cells(row: Row): string[] {
  const optional = (value: number | undefined, text: (v: number) => string): string => (value === undefined ? '' : text(value));
  return [
    row.name,
    milliseconds(row.seconds.median),
    milliseconds(row.seconds.spread),
    row.perBaseline.toPrecision(3),
    optional(row.bandwidthShare, (v) => `${(100 * v).toFixed(0)} %`),
    optional(row.error, (v) => v.toExponential(1)),
    optional(row.tokensPerSecond, (v) => v.toFixed(0)),
    optional(row.extraBytes, (v) => (v / 2 ** 20).toFixed(0)),
  ];
}

/** Header and rows; what only peers have is a column only where there are peers. */
function tableOf(c: CaseResult): string[][] {
  if (c.rows.every((row) => row.difference === undefined)) return [HEADER, ...c.rows.map(cells)];
  const difference = ({ difference: d, disagrees }: Row): string =>
    d === undefined ? '' : d.toExponential(1) + (disagrees ? ' DISAGREES WITH OURS' : '');
  return [[...HEADER, DIFFERENCE], ...c.rows.map((row) => [...cells(row), difference(row)])];
}

/** A case for a terminal. */
export function caseText(result: CaseResult): string {
  const table = tableOf(result);
  const used = table[0]!.map((_, i) => i).filter((i) => table.slice(1).some((line) => line[i] !== ''));
  const width = used.map((i) => Math.max(...table.map((line) => line[i]!.length)));
  const lines = table.map((line) =>
    used
      .map((i, k) => (k === 0 ? line[i]!.padEnd(width[k]!) : line[i]!.padStart(width[k]!)))
      .join('  ')
      .trimEnd(),
  );
  const notes = (result.notes ?? []).map((note) => `  ${note}\n`).join('');
  return `${result.case}: ${result.label}\n${lines.map((l) => '  ' + l).join('\n')}\n${notes}`;
}

function machineText({ machine: m, versions: v, date }: Results): string {
  const simd = m.simd ? `, ${m.simd}` : '';
  const peers = v.peers
    ? `; peers: ${Object.entries(v.peers)
        .map(([name, version]) => `${name} ${version}`)
        .join(', ')}`
    : '';
  return `${m.cpu}, ${m.cores} cores${simd}, ${(m.memoryBytes / 2 ** 30).toFixed(0)} GiB; fused-grpo ${v.fusedGrpo}, libtorch ${v.torch ?? '-'}, Node ${v.node}${peers}; ${date.slice(0, 10)}`;
}

const NOTE =
  'Medians of interleaved rounds in one run; "x baseline" is the median of the ratios round by round, to the first line of each table. ' +
  'Bytes are the fewest that the op must move. Errors are the largest of the checked rows, relative, in L2. ' +
  'Memory is what the first call needed beside its arguments and what the process had kept.';

export function markdown(results: Results): string {
  const one = (c: CaseResult): string => {
    const [header, ...rows] = tableOf(c);
    const head = `| ${header!.join(' | ')} |\n|${header!.map((_, i) => (i ? '---:' : '---')).join('|')}|\n`;
    const notes = (c.notes ?? []).map((note) => `\n${note}\n`).join('');
    return `## ${c.case}: ${c.label}\n\n${head}${rows.map((r) => `| ${r.join(' | ')} |\n`).join('')}${notes}`;
  };
  return `# Results\n\nMade by \`npx fused-grpo bench\`; not edited by hand.\n\n${machineText(results)}\n\n${NOTE}\n\n${results.cases.map(one).join('\n')}`;
}

function bars(c: CaseResult): string {
  const most = Math.max(...c.rows.map((r) => r.seconds.median));
  const bar = (r: Row, i: number): string => {
    const y = 26 * i;
    const width = Math.max(1, (420 * r.seconds.median) / most);
    const text = `${milliseconds(r.seconds.median)} ms, ${r.perBaseline.toPrecision(3)} x`;
    return `<text class="tick" x="215" y="${y + 16}" text-anchor="end">${escape(r.name)}</text><rect class="layer c${(i % 6) + 1}" x="222" y="${y + 3}" width="${width.toFixed(1)}" height="18" rx="3"/><text class="tick" x="${(width + 228).toFixed(1)}" y="${y + 16}">${text}</text>`;
  };
  const height = 26 * c.rows.length;
  return `<svg viewBox="0 0 800 ${height}" role="img" aria-label="${escape(c.label)}">${c.rows.map(bar).join('')}</svg>`;
}

/** One self-contained document. */
export function html(results: Results): string {
  const line = (values: string[], tag: string): string => `<tr>${values.map((v) => `<${tag}>${escape(v)}</${tag}>`).join('')}</tr>`;
  const one = (c: CaseResult): string => {
    const [header, ...rows] = tableOf(c);
    const notes = (c.notes ?? []).map((note) => `<p>${escape(note)}</p>`).join('');
    return (
      `<figure class="wide"><figcaption><b>${escape(c.case)}</b><small>${escape(c.label)}</small></figcaption>${bars(c)}${notes}` +
      `<details><summary>Numbers</summary><div class="scroll"><table>${line(header!, 'th')}${rows.map((r) => line(r, 'td')).join('')}</table></div></details></figure>`
    );
  };
  const head = `<h1>fused-grpo benchmarks</h1><p class="sub">${escape(machineText(results))}</p><p>${escape(NOTE)}</p>`;
  return page('fused-grpo benchmarks', `${head}<div class="charts">${results.cases.map(one).join('')}</div>`);
}

/** Reads a results.json; throws ERR_DATA in plain words. */
export function readResults(path: string): Results {
  let results: Results;
  try {
    results = JSON.parse(readFileSync(path, 'utf8')) as Results;
  } catch (cause) {
    throw new FusedGrpoError('ERR_DATA', `${path} cannot be read as results of a benchmark: ${(cause as Error).message}`, { cause });
  }
  if (results?.format !== 1 || !Array.isArray(results.cases))
    throw new FusedGrpoError('ERR_DATA', `${path} does not hold results of a benchmark`);
  return results;
}

/** What changed beyond noise: ratios to the baseline that moved by more than 5 % and more than three spreads of both runs together. */
export function compare(before: Results, after: Results): string[] {
  const key = (c: CaseResult, r: Row): string => `${c.case}: ${c.label}: ${r.name}`;
  const old = new Map(before.cases.flatMap((c) => c.rows.map((r) => [key(c, r), r] as const)));
  const noise = (r: Row): number => r.seconds.spread / r.seconds.median;
  const lines: string[] = [];
  for (const c of after.cases)
    for (const [i, r] of c.rows.entries()) {
      const was = old.get(key(c, r));
      if (!was || i === 0) continue;
      const ratio = r.perBaseline / was.perBaseline;
      if (Math.abs(Math.log(ratio)) <= Math.max(0.05, 3 * (noise(r) + noise(was)))) continue;
      const change = ratio > 1 ? `${(100 * (ratio - 1)).toFixed(0)} % slower` : `${(100 * (1 - ratio)).toFixed(0)} % faster`;
      lines.push(`${key(c, r)}: ${was.perBaseline.toPrecision(3)} -> ${r.perBaseline.toPrecision(3)} x baseline, ${change}`);
    }
  return lines;
}
