// A run folder's report, rebuilt from what the trainer wrote: metrics.jsonl, samples.jsonl, config.json.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { capabilities } from '../capabilities.js';
import { linesOf } from '../lines.js';
import { cut } from './html.js';
import { renderReport } from './report.js';
import type { RewardGroup, Sample } from '../trainer/types.js';
import type { BeforeAfter, ReportSamples, ReportStep } from './types.js';

/** Objects of a .jsonl file; lines that cannot be read (a crash cuts the last one) are counted. */
function readLines<T>(path: string, keep: (value: T) => T): { values: T[]; bad: number } {
  const values: T[] = [];
  let bad = 0;
  if (!existsSync(path)) return { values, bad };
  for (const line of linesOf(path)) {
    if (!line.trim()) continue;
    try {
      const value = JSON.parse(line) as T;
      if (typeof (value as { step?: unknown } | null)?.step !== 'number') throw new Error('no step');
      values.push(keep(value));
    } catch {
      ++bad;
    }
  }
  return { values, bad };
}

/** Only what a page shows is kept in memory. */
function shorten({ step, samples, groups }: ReportSamples): ReportSamples {
  const list = (Array.isArray(samples) ? samples : []) as Partial<Record<keyof Sample, unknown>>[];
  return {
    step,
    groups: groupsOf(groups),
    samples: list.map((s) => ({
      prompt: cut(asText(s.prompt), 2000),
      completion: cut(asText(s.completion), 4000),
      reward: typeof s.reward === 'number' ? s.reward : NaN,
      advantage: typeof s.advantage === 'number' ? s.advantage : 0,
      finishReason: s.finishReason === 'length' ? 'length' : 'stop',
    })),
  };
}

function groupsOf(groups: unknown): RewardGroup[] {
  const list = (Array.isArray(groups) ? groups : []) as Partial<Record<keyof RewardGroup, unknown>>[];
  return list
    .filter((g) => Array.isArray(g?.rewards))
    .slice(0, 16)
    .map((g) => ({
      prompt: cut(asText(g.prompt), 100),
      rewards: (g.rewards as unknown[]).slice(0, 64).map((r) => (typeof r === 'number' ? r : null)),
    }));
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value ?? ''));

function readConfig(folder: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  } catch {
    return {}; // the report says what it knows
  }
}

/** The machine and versions, for the report's last section. */
function surroundings(): Record<string, unknown> {
  const { version, torchVersion, simd, devices, node, platform } = capabilities();
  const processors = cpus();
  return {
    versions: { 'fused-grpo': version, libtorch: torchVersion ?? 'none', node },
    machine: {
      platform,
      cpu: `${processors[0]?.model ?? 'unknown'} × ${processors.length}`,
      simd: simd ?? 'unknown',
      memoryGB: Math.round(totalmem() / 1e9),
      devices: devices.map((d) => d.description ?? d.name).join(', '),
    },
  };
}

export interface RunReportOptions {
  title?: string;
  warnings?: readonly string[];
  beforeAfter?: BeforeAfter;
}

/** Writes `folder`/report.html from the run's files and returns its path. The old report stays until the new one is whole. */
export function writeRunReport(folder: string, { title = 'Training run', warnings = [], beforeAfter }: RunReportOptions = {}): string {
  const metrics = readLines<ReportStep>(join(folder, 'metrics.jsonl'), (v) => v);
  const samples = readLines<ReportSamples>(join(folder, 'samples.jsonl'), shorten);
  const unreadable = metrics.bad + samples.bad;
  const notes = unreadable ? [`${unreadable} line(s) of metrics.jsonl or samples.jsonl could not be read and were left out.`] : [];
  const html = renderReport({
    title,
    run: { ...readConfig(folder), ...surroundings() },
    steps: metrics.values,
    samples: samples.values,
    beforeAfter,
    warnings: [...warnings, ...notes],
  });
  const file = join(folder, 'report.html');
  writeFileSync(`${file}.part`, html);
  renameSync(`${file}.part`, file);
  return file;
}
