// Interleaved timing: every round runs each op once, so that a slow moment of the machine meets all of them. Medians and spreads.
import { median, medianAbsoluteDeviation } from 'simple-statistics';
import { watchMemory } from './memory.js';
import type { Peers } from './peers/peers.js';

/** Seconds over the rounds. `spread`: median absolute deviation. */
export interface Seconds {
  median: number;
  min: number;
  spread: number;
  rounds: number;
}

/** One line of a result: an op and what it took. */
export interface Row {
  name: string;
  seconds: Seconds;
  /** Median of the ratios to the case's baseline, round by round. */
  perBaseline: number;
  /** Largest relative error (L2) against fp64. */
  error?: number;
  /** By how much resident memory rose during the first call, at most: what the op needs beside its arguments. */
  extraBytes?: number;
  /** Bytes that the op must read and write per second, as a share of what a copy reaches in the same run. */
  bandwidthShare?: number;
  tokensPerSecond?: number;
  /** Peak resident memory of the process, where an op has its own. */
  peakRssBytes?: number;
  /** Of a peer: largest difference of its loss, entropy and gradient to ours, relative to the largest number. */
  difference?: number;
  /** The difference is more than the type of the numbers explains: the row compares different things. */
  disagrees?: boolean;
}

export interface CaseResult {
  case: string;
  /** What was run, in words: tells one result of a case from the next. */
  label: string;
  baseline: string;
  rows: Row[];
  /** Peers that are not among the rows, and why, and what makes theirs doubtful; a line each. */
  notes?: string[];
}

/** An op; it may return the seconds it took itself, in place of the time of the call. */
export type Op = () => void | number | Promise<void | number>;

export interface BenchContext {
  /** Measured rounds of every op. */
  rounds: number;
  signal?: AbortSignal;
  /** Other projects to measure in the same rounds. */
  peers?: Peers;
}

export interface MeasureOptions extends BenchContext {
  /** Runs before every op, not timed (refills what an op overwrites). */
  before?: () => void;
}

export function summary(times: readonly number[]): Seconds {
  const all = [...times]; // the library takes no readonly arrays
  return { median: median(all), min: Math.min(...all), spread: medianAbsoluteDeviation(all), rounds: all.length };
}

async function timed(op: Op): Promise<number> {
  const start = process.hrtime.bigint();
  const own = await op();
  return typeof own === 'number' ? own : Number(process.hrtime.bigint() - start) / 1e9;
}

/** Times the ops in turn, after one round that is thrown away. The first op is the baseline. */
export async function measure(ops: Readonly<Record<string, Op>>, options: MeasureOptions): Promise<Row[]> {
  const names = Object.keys(ops);
  const times = names.map((): number[] => []);
  const extra = names.map((): number | undefined => undefined);
  for (let round = -1; round < options.rounds; ++round)
    for (const [i, name] of names.entries()) {
      options.signal?.throwIfAborted();
      options.before?.();
      const risen = round < 0 ? watchMemory() : undefined;
      const took = await timed(ops[name]!);
      if (risen) extra[i] = risen();
      else times[i]!.push(took);
    }
  return names.map((name, i) => ({
    name,
    seconds: summary(times[i]!),
    perBaseline: median(times[i]!.map((t, round) => t / times[0]![round]!)),
    extraBytes: extra[i],
  }));
}
