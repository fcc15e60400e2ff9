// Whether a peer computes what we compute: its loss, entropy and gradients beside ours.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { number } from '../data.js';
import type { Row } from '../measure.js';
import type { OpenPeers, Peer } from './peers.js';

export type Numbers = Float32Array | Uint16Array;
type Dtype = 'float32' | 'bfloat16';

/** What the type of the numbers explains: peers round to it at every operation, log-probs of bfloat16 logits by up to 0.03. */
const BOUND: Readonly<Record<Dtype, number>> = { float32: 1e-4, bfloat16: 0.03 };

/** Our answer. The gradients' names are the names of the files that peers write. */
export interface OwnAnswer {
  loss: number;
  /** Mean over the selected tokens. */
  entropy: number;
  gradients: Readonly<Record<string, Numbers>>;
  dtype: Dtype;
}

/** |a - b| at most, relative to the largest |b|; infinite for arrays of different lengths, NaN where one has a NaN. */
export function largestDifference(a: Numbers, b: Numbers): number {
  if (a.length !== b.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; ++i) {
    const x = number(b, i);
    const d = Math.abs(number(a, i) - x);
    if (Number.isNaN(d)) return NaN;
    if (d > difference) difference = d;
    if (Math.abs(x) > size) size = Math.abs(x);
  }
  return difference === 0 ? 0 : difference / size;
}

function readNumbers(path: string, dtype: Dtype): Numbers {
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  const aligned = buffer.slice(byteOffset, byteOffset + byteLength);
  return dtype === 'float32' ? new Float32Array(aligned) : new Uint16Array(aligned);
}

/** Math.max with NaN taken as the largest. */
const largest = (values: readonly number[]): number => values.reduce((a, b) => (Number.isNaN(b) || b > a ? b : a), 0);

/** Has a peer compute once more, compares, and notes the difference in its row. Returns its gradients; undefined where it failed. */
export async function checkPeer(open: OpenPeers, peer: Peer, row: Row, ours: OwnAnswer): Promise<Record<string, Numbers> | undefined> {
  const answer = (await peer.ask({ op: 'check', folder: open.folder })) as { loss: number; entropy: number | null } | undefined;
  if (!answer) return undefined;
  const names = Object.keys(ours.gradients);
  const theirs = Object.fromEntries(names.map((name) => [name, readNumbers(join(open.folder, name), ours.dtype)]));
  const relative = (a: number, b: number): number => Math.abs(a - b) / Math.max(1, Math.abs(b));
  row.difference = largest([
    relative(answer.loss, ours.loss),
    answer.entropy === null ? 0 : relative(answer.entropy, ours.entropy),
    ...names.map((name) => largestDifference(theirs[name]!, ours.gradients[name]!)),
  ]);
  row.disagrees = !(row.difference <= BOUND[ours.dtype]);
  return theirs;
}

/** Checks every peer that has a row; `more` gets the gradients of each. Rows of peers that fail here go. */
export async function checkPeers(
  open: OpenPeers | undefined,
  rows: readonly Row[],
  ours: OwnAnswer,
  more: (row: Row, gradients: Record<string, Numbers>) => void = () => undefined,
): Promise<Row[]> {
  if (!open) return [...rows];
  for (const peer of open.alive) {
    const row = rows.find((r) => r.name === peer.name)!;
    const gradients = await checkPeer(open, peer, row, ours);
    if (gradients) more(row, gradients);
  }
  return rows.filter((row) => !open.list.some((peer) => peer.name === row.name && peer.failure !== undefined));
}
