// Peers without Python: test/bench/fixtures/peer.mjs in place of it.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Peers } from '../../lib/bench/peers/peers.js';
import { packageRoot } from '../../lib/native.js';

export const fixtures = join(packageRoot, 'test', 'bench', 'fixtures');
export const fakePython = join(fixtures, 'peer.mjs');
export const newFolder = (): string => mkdtempSync(join(tmpdir(), 'fused-grpo peers-'));
export const versions = { python: '3.0', torch: '1', trl: '3' };

export interface Setting {
  env: NodeJS.ProcessEnv;
  lines: () => string[];
}

/** An environment in which the stand-in misbehaves in a `way`, and what it was asked. */
export function setting(way: string, more: NodeJS.ProcessEnv = {}): Setting {
  const file = join(newFolder(), 'log');
  writeFileSync(file, '');
  const env = { PATH: process.env.PATH, FAKE_PEER: way, FAKE_LOG: file, ...more };
  return { env, lines: () => readFileSync(file, 'utf8').trim().split('\n') };
}

export function peersOf(way: string, more: { timeout?: number; signal?: AbortSignal } = {}): Peers & { lines: () => string[] } {
  const { env, lines } = setting(way);
  return Object.assign(new Peers({ python: fakePython, versions }, { env, threads: 3, ...more }), { lines });
}
